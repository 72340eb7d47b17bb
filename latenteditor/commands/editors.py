"""Which editors there are: what each family needs, under which licence its weights are published, what is at hand."""

from dataclasses import dataclass

from latenteditor.networks.editors import FAMILIES, Family, at_hand
from latenteditor.networks.models import MINIATURE


@dataclass
class Args:
    """No options."""


def main(args: Args) -> None:
    """Prints the families, and the weights that are published of each."""
    for family in FAMILIES:
        print("\n".join(lines_of(family)))
    print(f'The built-in editor, a small InstructPix2Pix, is "{MINIATURE}" and always at hand.')
    print(
        "Memory is that of the weights in 16 bits, by the parameters that their authors state; --edit.cpu-offload True"
    )
    print("needs less. Licences are as the cards on the hub said; read them there before you use what is made.")


def lines_of(family: Family) -> list[str]:
    """What there is to say of a family."""
    head = f"{family.title}: {family.branches} predictions a step, text guidance {family.usual_guidance}"
    width = max(len(one.model) for one in family.published)
    return [
        head,
        *(
            f"  {one.model.ljust(width)}  {one.gigabytes:3} GB  {one.licence}  "
            f"({'at hand' if at_hand(one.model) else 'not at hand'})"
            for one in family.published
        ),
    ]
