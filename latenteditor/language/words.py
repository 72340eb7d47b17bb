"""The English words by which prompts are split: verbs of editing, what opens and what links the names of things."""


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


DEFINITE = word_set("the this that these those all every his her its their my our your everything everyone")
"""What opens the name of something that is there already."""
INDEFINITE = word_set("a an some two three four five six seven eight nine ten several many")
"""What opens the name of something new."""
PRONOUNS = word_set("it him her them me us this that these those everything everyone")
"""What may stand for a whole object."""
LINKS = word_set(
    "in on at with of from to into by for under over behind near beside around above below inside outside through "
    "across along against like as than that which who whose wearing holding using made next towards toward onto upon "
    "off out away up down"
)
"""What ties a phrase to the word before it; the phrase may reach beyond an "and"."""
SEPARATORS = word_set(", . ! ? & and then also finally afterwards")
COURTESY = word_set("please now first can could would you")
"""What may open a request and says nothing."""
BINDING = word_set(
    "or nor but both each either neither no not don't don’t never avoid without except unless if until while when "
    "where because so keep keeping leave leaving only instead respectively together between same other others another "
    "one ones rest remaining half former latter second third fourth last"
)
"""What ties the parts of a prompt to each other: none of them says the same alone."""
FIXED = frozenset(
    tuple(phrase.split())
    for phrase in (
        "black and white",
        "salt and pepper",
        "day and night",
        "rock and roll",
        "yin and yang",
        "hat and tails",
        "bow and arrow",
        "bows and arrows",
        "skull and crossbones",
        "stars and stripes",
        "hammer and sickle",
        "cloak and dagger",
        "dungeons and dragons",
        "fish and chips",
        "arts and crafts",
        "make up",
    )
)
"""Several words that count as one."""

ATTRIBUTES = word_set(
    "red orange yellow green cyan blue purple pink white black grey gray brown violet magenta turquoise teal beige "
    "golden crimson scarlet maroon navy indigo lilac mauve khaki tan blond blonde brunette auburn multicolored "
    "multicoloured colorful colourful transparent translucent invisible wooden metallic furry fluffy icy frozen shiny "
    "glossy matte matt dull rough smooth polished rusty dirty clean wet dry old young new ancient modern bald bearded "
    "curly straight wavy long short big large small tiny huge tall thin thick fat slim wide narrow bigger larger "
    "smaller older younger newer darker lighter brighter longer shorter taller thinner thicker wider redder greener "
    "bluer round striped spotted dotted checkered checked plaid patterned sad happy angry scared muscular strong "
    "smiling laughing crying snowy sunny cloudy foggy rainy stormy misty empty full open closed broken bright dark "
    "pale hairy slimy sparkly glittery glowing burning melted melting pointy spooky"
) | {"salt and pepper"}
"""What something can be made, and no noun."""
NOUN_OR_ATTRIBUTE = word_set(
    "gold silver bronze copper glass stone marble brick wood metal plastic leather rubber velvet silk wool concrete "
    "crystal steel iron paper ceramic porcelain chrome clay ice rainbow light square cream peach coral salmon olive "
    "lavender ginger amber ruby emerald sapphire ivory smile laugh cry frown grin wink glow shine sparkle melt burn "
    "bloom jump run walk dance sit stand fly sleep float wave"
)
"""What something can be made, or else the last word of its name: "the cube glass", "the wine glass"."""
SHADES = word_set("snow sky baby lime navy forest royal blood jet coal lemon olive mint rose")
DEGREES = SHADES | word_set("very more less slightly completely fully entirely dark light bright deep pale hot neon")
"""What may stand before an attribute and belongs to it; a shade right after "the" is a noun all the same."""
SIDES = word_set("left right upper lower middle inner outer front back top bottom")
"""What tells things of one kind from each other."""
MASS_NOUNS = word_set(
    "hair fur makeup make-up armour armor clothing jewelry jewellery snow rain fog mist smoke fire grass moss ivy "
    "water lightning sunlight stubble lipstick eyeliner mascara graffiti"
) | {"make up"}
"""What is new without "a" and is no plural."""

CHANGES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("make", "let", "have"), word_set("a an look appear become wear hold out into")),
    **dict.fromkeys(("turn", "transform", "convert", "morph"), word_set("into to")),
    "change": word_set("into to from"),
    **dict.fromkeys(("paint", "colour", "color", "recolour", "recolor", "dye", "tint"), word_set("in with as like")),
    **dict.fromkeys(("replace", "swap", "exchange"), word_set("with by for")),
    **dict.fromkeys(("cover", "fill", "wrap", "surround", "decorate"), word_set("with in")),
    "dress": word_set("in as like"),
    "render": word_set("in as like"),
    "take": word_set("away off out from"),
}
"""Verbs that change an object, and the words that open what becomes of it."""
REPLACING = word_set("replace swap exchange")
GIVING = word_set("give lend")
PLACING: dict[str, frozenset[str]] = {
    **dict.fromkeys(("put", "place"), word_set("on in")),
    "add": word_set("to"),
    "insert": word_set("into"),
    **dict.fromkeys(("draw", "write", "sprinkle"), frozenset()),
}
"""Verbs that bring something new, and the words for its place that the verb, not the noun, asks for."""
REMOVING = word_set("remove delete erase")
TREATING = word_set("brighten darken enlarge shrink shave hide")
"""Verbs that say by themselves what becomes of their object."""
VERBS = frozenset({*CHANGES, *GIVING, *PLACING, *REMOVING, *TREATING})

MEN = word_set("man boy guy king prince father dad grandfather gentleman groom husband brother son actor")
WOMEN = word_set("woman girl lady queen princess mother mom mum grandmother bride wife sister daughter actress")
ANYBODY = word_set("person child kid baby teacher doctor soldier")
PEOPLE = {"him": MEN | ANYBODY, "his": MEN | ANYBODY, "her": WOMEN | ANYBODY}
"""Nouns that a pronoun may stand for."""
WEATHER = word_set(
    "night day winter summer spring autumn fall sunset sunrise dusk dawn evening morning midnight noon daytime "
    "nighttime snow snowy snowing rain rainy raining sunny cloudy foggy stormy christmas halloween"
)
"""What "it" is when it stands for nothing: "make it winter"."""
PICTURE = word_set(
    "painting drawing sketch photo photograph picture cartoon watercolor watercolour style film movie look"
)
"""Where "it" may be the whole picture as well as a thing in it."""

WORDS_WITHOUT_CONTENT = frozenset().union(
    DEFINITE, INDEFINITE, PRONOUNS, LINKS, SEPARATORS, COURTESY, VERBS, word_set("look wear hold become is are be")
)
"""What a language model may add to a prompt's words or leave out."""
