import torch

from latenteditor.networks.autoencoder import Autoencoder


def test_a_second_run_reads_the_cache_and_a_damaged_one_is_rebuilt(make_datamanager, tmp_path, monkeypatch):
    first = make_datamanager(latent_cache_dir=tmp_path)
    first.load_views()
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(first.originals)
    assert all(path.suffix == ".safetensors" for path in files)

    files[0].write_bytes(files[0].read_bytes()[:100])
    encoded = []
    encode = Autoencoder.encode
    monkeypatch.setattr(Autoencoder, "encode", lambda *args: encoded.append(1) or encode(*args))
    second = make_datamanager(latent_cache_dir=tmp_path)
    second.load_views()
    assert len(encoded) == 1
    assert all(map(torch.equal, first.originals, second.originals))
    torch.testing.assert_close(first.statistics(), second.statistics())

    make_datamanager(latent_cache_dir=tmp_path, image_size=24).load_views()
    assert len(encoded) == 1 + len(first.originals)


def test_linear_colors_are_the_least_squares_fit(make_datamanager):
    data = make_datamanager()
    mean, std, linear_rgb, image_size = data.statistics()
    assert image_size == 32
    latents = torch.cat([view.flatten(1).T for view in data.originals])
    torch.testing.assert_close(latents.mean(0), mean)
    torch.testing.assert_close(latents.std(0), std)
    colors = torch.cat(
        [
            torch.nn.functional.avg_pool2d(data.train_photographs[index]["image"].permute(2, 0, 1), 4).flatten(1).T
            for index in range(len(data.originals))
        ]
    )
    with_one = torch.nn.functional.pad(latents, (0, 1), value=1.0)
    fitted = (with_one @ linear_rgb - colors).square().mean()
    best = (with_one @ torch.linalg.lstsq(with_one, colors).solution - colors).square().mean()
    torch.testing.assert_close(fitted, best, rtol=1e-3, atol=1e-6)


def test_originals_are_the_latents_of_the_resized_photographs(make_datamanager, autoencoder):
    data = make_datamanager()
    data.load_views()
    for index in (0, 1):
        image = data.train_photographs[index]["image"].permute(2, 0, 1)[None]
        assert max(image.shape[-2:]) == 32
        torch.testing.assert_close(data.originals[index], autoencoder.encode(image)[0])
