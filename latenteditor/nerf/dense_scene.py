"""A nerfacto of colours on the dense grids of a scene of latents: on a CPU several times faster than hash tables."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from latenteditor.nerf.in2n import In2nModel, In2nModelConfig
from latenteditor.nerf.latent_field import DenseGrids, grids_and_mlp, network_parameters, table_parameters


@dataclass
class DenseIn2nModelConfig(In2nModelConfig):
    """In2n's scene without hash tables, which cost a CPU several times more per ray."""

    _target: type = field(default_factory=lambda: DenseIn2nModel)
    log2_hashmap_size: int = 1
    """Tables that are thrown away need not be large."""
    average_init_density: float = 1.0
    """As in latent-nerfacto."""


class DenseIn2nModel(In2nModel):
    """In2n's scene on dense grids."""

    config: DenseIn2nModelConfig

    def populate_modules(self) -> None:
        """Builds nerfacto's parts, then replaces every hash table."""
        super().populate_modules()
        config = self.config
        self.field.mlp_base = grids_and_mlp(
            DenseGrids(config.num_levels, config.base_res, config.max_res, config.features_per_level),
            config.hidden_dim,
            1 + self.field.geo_feat_dim,
        )
        for index, network in enumerate(self.proposal_networks):
            proposal: Any = network
            arguments = config.proposal_net_args_list[min(index, len(config.proposal_net_args_list) - 1)]
            proposal.encoding = DenseGrids(
                arguments["num_levels"], config.base_res, arguments["max_res"], config.features_per_level
            )
            proposal.mlp_base = grids_and_mlp(proposal.encoding, arguments["hidden_dim"], 1)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Grids apart from perceptrons, under the names they have in a scene of latents."""
        return {
            "tables": table_parameters(self.field) + table_parameters(self.proposal_networks),
            "proposal_networks": network_parameters(self.proposal_networks),
            "fields": network_parameters(self.field),
        }
