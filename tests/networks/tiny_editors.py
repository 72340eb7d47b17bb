"""One small editor of each family, with random weights in the real format, and diffusers' own pipeline of it."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.conftest import byte_tokenizer

FOLDER_NAMES = ("sdxl", "cosxl", "kontext", "klein", "klein_base", "qwen", "qwen_plus")


def build(name: str, folder: Path) -> Any:
    """Builds an editor, saves it in a folder and returns diffusers' pipeline of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = BUILDERS[name](folder / "made")
    for network in pipeline.components.values():
        if isinstance(network, torch.nn.Module):
            network.eval()
    pipeline.save_pretrained(folder / "model")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_sdxl(folder: Path, edm: bool = False) -> Any:
    from diffusers import AutoencoderKL, EDMEulerScheduler, EulerDiscreteScheduler, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_instruct_pix2pix import (
        StableDiffusionXLInstructPix2PixPipeline,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = make_tokenizer(folder)
    config = clip_config(tokenizer)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )
    if edm:
        scheduler: Any = EDMEulerScheduler(
            sigma_min=0.002,
            sigma_max=120.0,
            sigma_data=1.0,
            prediction_type="v_prediction",
            sigma_schedule="exponential",
        )
    else:
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        )
    return StableDiffusionXLInstructPix2PixPipeline(
        vae=AutoencoderKL(**kl_sizes(4), scaling_factor=0.13025),
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
        is_cosxl_edit=edm,
    )


def build_kontext(folder: Path) -> Any:
    from diffusers import AutoencoderKL, FluxKontextPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel

    clip = make_tokenizer(folder)
    t5 = qwen_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    t5_config = T5Config(vocab_size=len(t5), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return FluxKontextPipeline(
        scheduler=flow_scheduler(base_shift=0.5, max_shift=1.15),
        vae=AutoencoderKL(**kl_sizes(16), scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(clip_config(clip)),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(t5_config),
        tokenizer_2=t5,
        transformer=transformer,
    )


def build_klein(_folder: Path, distilled: bool = True) -> Any:
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = qwen_tokenizer()
    qwen = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    transformer = Flux2Transformer2DModel(
        in_channels=128,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(**kl_sizes(32))
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return Flux2KleinPipeline(
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(qwen),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )


def build_qwen(_folder: Path, plus: bool = False) -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        QwenImageEditPipeline,
        QwenImageEditPlusPipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = qwen_tokenizer()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        **ids,
    )
    transformer = QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    vae = AutoencoderKLQwenImage(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    images = Qwen2VLImageProcessor()
    processor = Qwen2VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=tokenizer.chat_template)
    return (QwenImageEditPlusPipeline if plus else QwenImageEditPipeline)(
        scheduler=flow_scheduler(base_shift=0.5, max_shift=0.9, shift_terminal=0.02),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer,
        processor=processor,
        transformer=transformer,
    )


BUILDERS = {
    "sdxl": build_sdxl,
    "cosxl": lambda folder: build_sdxl(folder, edm=True),
    "kontext": build_kontext,
    "klein": build_klein,
    "klein_base": lambda folder: build_klein(folder, distilled=False),
    "qwen": build_qwen,
    "qwen_plus": lambda folder: build_qwen(folder, plus=True),
}


def flow_scheduler(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **options)


def kl_sizes(channels: int) -> dict[str, Any]:
    return {
        "block_out_channels": (4, 4, 4, 4),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "latent_channels": channels,
        "sample_size": 64,
    }


def make_tokenizer(folder: Path) -> Any:
    folder.mkdir(parents=True)
    return byte_tokenizer(folder)


def clip_config(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def qwen_tokenizer() -> Any:
    """A tokenizer of single bytes that knows the marks of a request."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
    marks = [f"<|{name}|>" for name in names]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(made.to_str()),
        pad_token="<|endoftext|>",
        additional_special_tokens=marks,
        model_max_length=2048,
    )
    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def small_sight(denoiser: Any) -> Any:
    """How an editor is shown a view, small, where it is shown one."""
    sight = getattr(denoiser, "sight", None)
    return None if sight is None else sight._replace(area=64 * 64)
