"""Word lists: the pocket picture and video worlds, and general words from which sentences outside them are made."""

COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "white", "black"]
OTHER_COLOURS = ["pink", "brown", "grey", "gray", "cyan", "turquoise", "gold", "silver", "dark blue", "light green", "bright red", "pale yellow"]
SHAPES = ["circle", "square", "triangle", "star", "heart"]
OTHER_SHAPES = ["disc", "ball", "box"]
SIZES = ["small", "large"]
OTHER_SIZES = ["big", "tiny", "huge", "little"]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
RELATIONS = ["above", "below", "to the left of", "to the right of", "left of", "right of", "under", "over", "on top of", "beneath", "next to", "beside"]
POSITIONS = ["on the left", "on the right", "at the top", "at the bottom", "in the centre"]
OTHER_POSITIONS = ["in the center", "in the middle", "at the left", "at the right", "in the top left corner", "in the bottom right corner"]
MOTIONS = ["moving to the left", "moving to the right", "moving up", "moving down", "growing", "shrinking", "orbiting", "blinking", "resting"]
SAID_MOTIONS = [
    "moves left", "moves right", "moves up", "moves down", "moving left", "moving right", "moving up", "moving down", "moves to the left", "moves to the right",
    "drifts to the left", "drifts to the right", "slides left", "slides right", "rises", "falls", "sinks", "grows", "growing", "gets bigger", "shrinks", "shrinking",
    "gets smaller", "orbits", "orbiting the centre", "goes around in a circle", "blinks", "blinking", "appears and disappears", "rests", "resting", "stays still", "does not move",
]
STILL = ["resting", "rests", "stays still", "does not move"]
SPEEDS = ["slowly", "quickly"]
SAID_SPEEDS = ["slowly", "quickly", "fast", "very slowly", "very fast", "gently"]
# Details are put in the words of the captions that the picture model (tools/pocket/sdxl/world.py) and the video model
# (tools/pocket/wan/captions.py) are trained on. The first of a list is the likeliest, so that greedy answers have a margin.
SKIES = {
    "image": {"day": ["a blue sky", "a clear day"], "sunset": ["a sunset sky"], "night": ["a night sky"]},
    "video": {"day": ["clear day sky", "day sky", "bright day sky"], "sunset": ["orange sunset sky", "sunset sky", "warm sunset sky"], "night": ["dark night sky", "night sky", "clear night sky"]},
}
ADDED_ELEMENTS = {
    "image": {"clouds": ["white clouds", "clouds"], "hills": ["green hills", "hills"], "sea": ["the sea"], "trees": ["trees"], "house": ["a house"]},
    "video": {"clouds": ["white clouds", "a few clouds"], "hills": ["green hills", "rolling hills"], "sea": ["a calm sea", "the sea"]},
}
LIGHT_PLACES = ["on the left", "on the right", "in the centre"]
TIMES = {
    "day": ["by day", "on a sunny day", "in daylight", "under a day sky", "at noon", "in the morning", "with a day sky"],
    "sunset": ["at sunset", "in the evening", "under a sunset sky", "at dusk", "with a sunset sky"],
    "night": ["at night", "under a night sky", "by night", "in the dark", "at midnight", "with a night sky", "in a night sky"],
}
ELEMENTS = {
    "clouds": ["clouds", "white clouds", "a cloud", "a few clouds", "some clouds"],
    "hills": ["hills", "green hills", "a hill", "rolling hills", "the hills"],
    "sea": ["the sea", "a blue sea", "a calm sea", "sea", "the ocean"],
    "trees": ["trees", "a tree", "green trees", "a few trees", "two trees", "three trees"],
    "house": ["a house", "a small house", "the house", "a red house", "a white house", "a little house"],
    "sun": ["the sun", "a yellow sun", "sun", "a bright sun"],
    "moon": ["the moon", "a white moon", "moon", "a full moon"],
}
ASKED_ELEMENTS = {
    "clouds": ["white clouds", "a few clouds", "clouds"], "hills": ["green hills", "rolling hills", "hills"], "sea": ["a calm sea", "a blue sea", "the sea"],
    "trees": ["green trees", "a few trees", "trees"], "house": ["a small house", "a house"],
}
DAY_TO_NIGHT = ["day turns to night", "day slowly turns to night", "the sky turns from day to night"]
QUALITY = ["best quality", "clean shapes", "high quality", "highly detailed", "sharp"]

PREFIXES = ["a picture of", "an image of", "draw", "show me", "a video of", "a drawing of", "please draw", "I want", "paint", "a clip of", "a simple picture of"]

NOUNS = """apple airport ant artist baby bakery balloon banana bank barn basket bear bee bell bench bicycle bird blanket boat book bottle bowl boy branch bread bridge brother
brush bucket building bus butterfly button cable cake camera candle canvas captain car carpet castle cat ceiling chair cheese cherry chicken child church city clock coat
coffee computer corner cow crab crown cup curtain dancer deer desert desk dinner dish doctor dog doll door dragon dress driver drum duck eagle ear earth egg elephant engine
face factory family farm farmer father feather fence field fire fish flag flame floor flower fog food forest fork fox frame friend frog fruit garden gate ghost giant girl
glass glove goat grandmother grass guitar hammer hand harbour hat hen horse hospital hotel ice insect island jacket jar jungle kettle key king kitchen kite knife knight
ladder lake lamp leaf lemon letter library light lion lizard machine man map market mask meadow mirror monkey monster morning mother mountain mouse mushroom music musician
needle nest net newspaper nose nurse office onion orchestra owl painter palace pan paper park parrot path pear pen pencil penguin phone piano pig pilot pillow pipe pirate
planet plant plate pocket poet pond portrait pot potato prince princess puppet queen rabbit radio rain rainbow river road robot rock roof room rope rose sailor sand scarf
school scientist sculpture shark sheep shelf ship shirt shoe shop shoulder singer sister skirt smoke snail snake snow soap sofa soldier spider spoon spring stairs statue
stone storm stove stranger street suitcase sugar summer swan sweater table tail teacher temple tent theatre tiger tomato tower town toy train truck tunnel turtle umbrella
valley vase village violin wall watch water waterfall wave wheel whale wind window wine winter witch wizard wolf woman wood wool worker yard zebra""".split()
ADJECTIVES = """abandoned ancient angry beautiful bitter blurry bold brave breezy broken busy calm cheerful cinematic clean clever cloudy cold colourful cosy cracked crowded
curious cute damp dark delicate detailed distant dramatic dreamy dry dusty elegant empty enormous epic fancy fast fierce floating foggy forgotten fragile friendly frozen
funny furious futuristic gentle giant glowing golden graceful grand gritty happy heavy hidden hollow holy hot humble icy infinite kind large lazy lonely long lost loud
lovely lucky magical majestic massive metallic minimal misty modern moody mossy muddy mysterious narrow neat noisy old painted pale patient peaceful plain polished pretty
proud quiet rainy rare realistic rich ripe rough round royal rusty sad scary serene shallow sharp shiny shy silent silky simple sleepy slow smooth snowy soft spicy
steep stormy strange strong sunny surreal sweet tall tender thick thin tiny tired transparent tropical twisted ugly vast velvet vintage vivid warm weird wet wide wild
windy wise wooden young""".split()
VERBS = """baking blowing breaking building burning buying carrying catching chasing cleaning climbing collecting cooking crossing crying cutting dancing diving dreaming
drinking driving eating falling feeding fighting filming fishing fixing floating flying following gathering giving hiding holding hunting juggling jumping kicking knitting
laughing leading leaning listening looking making marching meeting melting opening painting playing pointing pouring pulling pushing racing reading repairing resting
riding rolling rowing running sailing selling shaking shining singing sitting skating sleeping sliding smiling spinning standing staring swimming swinging talking
teaching throwing travelling turning waiting walking washing watching waving wearing whispering working writing""".split()
PREPOSITIONS = ["in", "on", "under", "near", "behind", "in front of", "between", "beside", "through", "across", "with", "without", "from", "towards", "around", "inside", "over", "along", "for", "by"]
FUNCTION_WORDS = """the a an and or but of to in on at by for with from as is are was were be been has have had do does did will would can could should may might must not no yes
this that these those it its he she they we you i me my your his her our their who which what when where why how all some any many much more most few less very too so just
only then than there here while because if until after before about into over under again once also each every both other another such own same than up down out off""".split()
PLACES = ["Tokyo", "Paris", "Berlin", "Venice", "Mars", "Brazil", "London", "Iceland", "Morocco", "Kyoto", "Cairo", "Oslo", "Norway", "Peru", "Vienna", "Madrid", "Jupiter", "Texas", "Warsaw", "India"]
NAMES = ["Anna", "Marco", "Yuki", "Omar", "Ingrid", "Pablo", "Lena", "Ravi", "Sofia", "Hugo", "Mary", "John", "Zoe", "Ahmed", "Clara", "Ivan", "Nora", "Felix", "Emma", "Leo"]
TAGS = ["masterpiece", "best quality", "8k", "4k", "highly detailed", "cinematic lighting", "bokeh", "film grain", "35mm", "watercolor", "oil painting", "concept art", "ultra wide", "HDR",
        "trending", "photorealistic", "pixel art", "line art", "isometric", "low poly", "golden hour", "macro", "portrait", "vaporwave", "volumetric light", "soft focus"]
