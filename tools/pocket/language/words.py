"""What people call the things of the pocket worlds: one table a kind, the first word of a row being the plain one."""

COLOURS = {
    "red": ["red"] * 9 + ["crimson", "scarlet", "ruby", "blood red", "reddish", "cherry red"], "orange": ["orange"] * 8 + ["tangerine", "orangey"],
    "yellow": ["yellow"] * 8 + ["golden", "gold", "lemon", "yellowish", "sunny yellow", "lemon yellow"],
    "green": ["green"] * 8 + ["emerald", "grass green", "greenish", "leaf green"], "blue": ["blue"] * 9 + ["azure", "navy", "cobalt", "bluish", "royal blue", "navy blue"],
    "purple": ["purple"] * 7 + ["violet", "lilac", "purplish", "plum"],
    "white": ["white"] * 6 + ["snow-white", "snowy white", "whitish"], "black": ["black"] * 6 + ["jet black", "pitch black", "jet-black"], "pink": ["pink"] * 7 + ["rose", "rosy", "pinkish", "rose pink", "bubblegum pink"],
    "brown": ["brown"] * 7 + ["chocolate brown", "chestnut", "brownish", "chocolate", "coffee brown"],
}
SHADES = ["bright", "light", "dark", "deep", "pure", "vivid", "plain", "solid", "strong"]
# (one, many)
SHAPES = {
    "circle": [("circle", "circles")] * 5 + [("disc", "discs"), ("disk", "disks"), ("ball", "balls"), ("dot", "dots"), ("round shape", "round shapes"), ("spot", "spots"), ("sphere", "spheres"), ("round thing", "round things"), ("orb", "orbs")],
    "square": [("square", "squares")] * 5 + [("box", "boxes"), ("block", "blocks"), ("cube", "cubes"), ("square shape", "square shapes")], "triangle": [("triangle", "triangles")] * 6 + [("triangle shape", "triangle shapes"), ("three-sided shape", "three-sided shapes"), ("pyramid", "pyramids")],
    "star": [("star", "stars")] * 5 + [("five-pointed star", "five-pointed stars"), ("star shape", "star shapes")],
    "heart": [("heart", "hearts")] * 4 + [("heart shape", "heart shapes"), ("love heart", "love hearts"), ("valentine heart", "valentine hearts")],
    "ring": [("ring", "rings")] * 4 + [("donut", "donuts"), ("doughnut", "doughnuts"), ("hoop", "hoops"), ("annulus", "annuli"), ("circle with a hole", "circles with holes")],
    "cross": [("cross", "crosses")] * 4 + [("plus", "pluses"), ("plus sign", "plus signs"), ("plus shape", "plus shapes")],
    "diamond": [("diamond", "diamonds")] * 4 + [("rhombus", "rhombuses"), ("lozenge", "lozenges"), ("diamond shape", "diamond shapes")],
    "arrow": [("arrow", "arrows")] * 4 + [("arrow pointing right", "arrows pointing right")],
}
ANY_SHAPE = [("shape", "shapes"), ("thing", "things"), ("figure", "figures"), ("object", "objects"), ("form", "forms")]
SIZES = {
    "small": ["small"] * 4 + ["tiny", "little", "wee", "mini", "minute", "smallish", "miniature", "lil", "teeny", "teeny tiny", "itsy bitsy", "petite"],
    "large": ["large"] * 3 + ["big"] * 3 + ["huge", "giant", "enormous", "massive", "oversized", "great big", "gigantic", "biggish", "humongous", "sizeable", "really big"],
}
OUTLINE = {True: ["outlined", "hollow", "unfilled", "empty", "outline"], False: ["filled", "solid", "filled-in"]}
NUMBERS = {
    2: ["two", "two", "2", "a pair of", "a couple of"], 3: ["three", "three", "3", "a trio of"], 4: ["four", "four", "4", "a group of four"],
    5: ["five", "five", "5", "a group of five"],
}
PLACES = {
    "left": ["on the left", "on the left", "at the left", "to the left", "on the left side", "on the left-hand side", "in the left half", "near the left edge", "over on the left", "left", "at the left side",
             "towards the left", "in the left part", "on the left hand side", "far left", "off to the left", "at the left-hand side", "on the far left", "by the left edge", "in the left area"],
    "right": ["on the right", "on the right", "at the right", "to the right", "on the right side", "on the right-hand side", "in the right half", "near the right edge", "over on the right", "right",
              "at the right side", "towards the right", "in the right part", "on the right hand side", "far right", "off to the right", "at the right-hand side", "on the far right", "by the right edge", "in the right area"],
    "top": ["at the top", "at the top", "on top", "up top", "in the upper half", "in the upper part", "near the top edge", "near the top", "at the very top", "top", "up at the top", "in the top part", "towards the top", "high up", "at the upper edge", "along the top", "in the upper area", "way up top"],
    "bottom": ["at the bottom", "at the bottom", "down at the bottom", "in the lower half", "in the lower part", "near the bottom edge", "near the bottom", "bottom", "at the very bottom", "in the bottom part", "towards the bottom",
               "down below", "low down", "at the lower edge", "along the bottom", "in the lower area", "at the foot"],
    "centre": ["in the centre", "in the center", "in the middle", "at the centre", "at the center", "right in the middle", "in the very middle", "centred", "centered", "in the dead centre", "middle", "center", "centre",
               "bang in the middle", "smack in the middle", "dead centre", "dead center", "in the central area", "at its centre"],
}
SPOTS = {"left": ["left", "left side", "left-hand side"], "right": ["right", "right side", "right-hand side"], "top": ["top", "upper part", "upper half"], "bottom": ["bottom", "lower part", "lower half"],
         "centre": ["centre", "center", "middle"]}
RELATIONS = {
    "above": ["above"] * 4 + ["over", "on top of", "directly above", "just above", "higher than", "right above", "atop", "hovering over", "sitting on top of", "stacked on"],
    "below": ["below"] * 3 + ["under"] * 2 + ["beneath", "underneath", "directly below", "just below", "lower than", "right under", "sitting below", "hanging below"],
    "left of": ["left of", "to the left of", "to the left of", "on the left of", "on the left side of", "at the left of", "left from"],
    "right of": ["right of", "to the right of", "to the right of", "on the right of", "on the right side of", "at the right of", "right from"],
}
# beside "it": with "A above it", "A to its left"
TO_IT = {"above": ["above it", "over it", "above", "on top of it", "overhead"], "below": ["below it", "under it", "underneath", "beneath it", "below"],
         "left of": ["to its left", "on its left", "left of it", "to the left of it", "on its left side"], "right of": ["to its right", "on its right", "right of it", "to the right of it", "on its right side"]}
INVERSE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
ENDS = {"above": ("top", "bottom"), "below": ("bottom", "top"), "left of": ("left", "right"), "right of": ("right", "left")}
TOGETHER = ["and", "and", "and", "with", "next to", "beside", "plus", "together with", "as well as", "alongside", "&", "and also", "near"]
GROUNDS = ["background"] * 8 + ["backdrop"] * 2 + ["bg", "ground", "field", "canvas", "surface", "page", "wall"]
QUALITY = ["masterpiece", "best quality", "high quality", "highly detailed", "sharp", "clean shapes", "flat colours", "flat colors", "clean edges", "sharp edges", "simple shapes", "high contrast",
           "cinematic lighting", "soft light", "4k", "8k", "hd", "minimalist", "vector art", "simple", "crisp", "even light", "sharp focus"]
CLIP_QUALITY = ["smooth motion", "cinematic", "static camera", "seamless", "60 fps", "smooth"]
BAD = ["worst quality", "low quality", "blurry", "ugly", "deformed", "noisy", "watermark", "text", "out of focus", "jpeg artifacts", "noise", "signature", "cropped", "bad", "messy"]

# (bare, third person, -ing)
MOTIONS = {
    "left": [("move left", "moves left", "moving left"), ("move to the left", "moves to the left", "moving to the left"), ("drift left", "drifts left", "drifting left"), ("slide left", "slides left", "sliding left"),
             ("go left", "goes left", "going left"), ("travel to the left", "travels to the left", "travelling to the left"), ("glide to the left", "glides to the left", "gliding to the left"),
             ("head left", "heads left", "heading left"), ("move from right to left", "moves from right to left", "moving from right to left"), ("drift to the left", "drifts to the left", "drifting to the left"),
             ("shift leftwards", "shifts leftwards", "shifting leftwards"), ("move leftward", "moves leftward", "moving leftward")],
    "right": [("move right", "moves right", "moving right"), ("move to the right", "moves to the right", "moving to the right"), ("drift right", "drifts right", "drifting right"), ("slide right", "slides right", "sliding right"),
              ("go right", "goes right", "going right"), ("travel to the right", "travels to the right", "traveling to the right"), ("glide to the right", "glides to the right", "gliding to the right"),
              ("head right", "heads right", "heading right"), ("move from left to right", "moves from left to right", "moving from left to right"), ("drift to the right", "drifts to the right", "drifting to the right"),
              ("shift rightwards", "shifts rightwards", "shifting rightwards"), ("move rightward", "moves rightward", "moving rightward")],
    "up": [("move up", "moves up", "moving up"), ("rise", "rises", "rising"), ("go up", "goes up", "going up"), ("move upwards", "moves upwards", "moving upwards"), ("float up", "floats up", "floating up"),
           ("climb", "climbs", "climbing"), ("move upward", "moves upward", "moving upward"), ("drift up", "drifts up", "drifting up"), ("ascend", "ascends", "ascending"), ("fly up", "flies up", "flying up"),
           ("move to the top", "moves to the top", "moving to the top")],
    "down": [("move down", "moves down", "moving down"), ("fall", "falls", "falling"), ("sink", "sinks", "sinking"), ("go down", "goes down", "going down"), ("move downwards", "moves downwards", "moving downwards"),
             ("drop", "drops", "dropping"), ("move downward", "moves downward", "moving downward"), ("drift down", "drifts down", "drifting down"), ("descend", "descends", "descending"), ("slide down", "slides down", "sliding down"),
             ("move to the bottom", "moves to the bottom", "moving to the bottom")],
    "grow": [("grow", "grows", "growing"), ("get bigger", "gets bigger", "getting bigger"), ("get larger", "gets larger", "getting larger"), ("become bigger", "becomes bigger", "becoming bigger"), ("expand", "expands", "expanding"),
             ("grow larger", "grows larger", "growing larger"), ("swell", "swells", "swelling"), ("increase in size", "increases in size", "increasing in size"), ("enlarge", "enlarges", "enlarging")],
    "shrink": [("shrink", "shrinks", "shrinking"), ("get smaller", "gets smaller", "getting smaller"), ("become smaller", "becomes smaller", "becoming smaller"), ("contract", "contracts", "contracting"),
               ("grow smaller", "grows smaller", "growing smaller"), ("decrease in size", "decreases in size", "decreasing in size"), ("shrink down", "shrinks down", "shrinking down")],
    "orbit": [("orbit", "orbits", "orbiting"), ("orbit the centre", "orbits the centre", "orbiting the centre"), ("go around in a circle", "goes around in a circle", "going around in a circle"),
              ("move in a circle", "moves in a circle", "moving in a circle"), ("circle around the center", "circles around the center", "circling around the center"), ("go round and round", "goes round and round", "going round and round"),
              ("revolve around the middle", "revolves around the middle", "revolving around the middle"), ("circle round", "circles round", "circling round"), ("run in circles", "runs in circles", "running in circles")],
    "blink": [("blink", "blinks", "blinking"), ("appear and disappear", "appears and disappears", "appearing and disappearing"), ("blink on and off", "blinks on and off", "blinking on and off"), ("flash", "flashes", "flashing"),
              ("flicker", "flickers", "flickering"), ("wink on and off", "winks on and off", "winking on and off"), ("vanish and come back", "vanishes and comes back", "vanishing and coming back")],
    "still": [("rest", "rests", "resting"), ("stay still", "stays still", "staying still"), ("stand still", "stands still", "standing still"), ("not move", "does not move", "not moving"), ("stay in place", "stays in place", "staying in place"),
              ("sit still", "sits still", "sitting still"), ("stay put", "stays put", "staying put"), ("be still", "is still", "motionless"), ("keep still", "keeps still", "keeping still"), ("not move", "doesn't move", "unmoving")],
}
WAYS = {"left": ["to the left", "leftwards", "left", "from right to left"], "right": ["to the right", "rightwards", "right", "from left to right"], "up": ["up", "upwards", "from bottom to top"], "down": ["down", "downwards", "from top to bottom"],
        "grow": ["growth", "growing"], "shrink": ["shrinking"], "orbit": ["in a circle", "orbit", "circular"], "blink": ["blinking", "on and off"], "still": ["none", "still"]}
SPEEDS = {"slow": ["slowly"] * 4 + ["gently", "very slowly", "at a slow pace", "unhurriedly", "bit by bit", "gradually", "at low speed", "lazily"],
          "fast": ["quickly"] * 3 + ["fast"] * 3 + ["rapidly", "very fast", "swiftly", "at high speed", "speedily", "in a hurry", "really fast", "at speed"]}
PACES = {"slow": ["slow", "gentle", "low"], "fast": ["fast", "quick", "rapid", "high"]}

SKIES = {
    "day": ["day", "day sky", "a clear day", "daylight", "a blue sky", "by day", "a sunny day", "in daylight", "in the morning", "at noon", "daytime", "a bright day sky", "during the day", "a clear sky", "midday", "blue skies"],
    "sunset": ["sunset", "a sunset sky", "dusk", "sunset sky", "an orange sunset sky", "a sunset", "at sunset", "in the evening", "at dusk", "a warm sunset", "evening", "an evening sky", "the sun going down"],
    "night": ["night", "a night sky", "at night", "night sky", "a dark night sky", "at midnight", "in the dark", "nighttime", "by night", "a clear night", "during the night", "midnight"],
    "day to night": ["day turns to night", "day slowly turns to night", "the sky turns from day to night", "night falls", "from day to night", "as day turns to night", "day turning into night", "day becomes night", "daylight fades into night",
                     "it gets dark", "a day that turns into night", "day changing to night", "the day ends and night comes", "nightfall", "day goes to night"],
}
HILLS = ["green hills", "hills", "rolling hills", "the hills", "some hills", "grassy hills", "a hill", "hilly land"]
SEA = ["the sea", "sea", "the ocean", "a calm sea", "a blue sea", "an ocean", "the water", "the seaside", "a sea"]
CLOUDS = ["clouds", "white clouds", "a few clouds", "some clouds", "little clouds", "cloudy"]
TREES = ["trees", "some trees", "a few trees", "green trees"]
HOUSE = ["a house", "a small house", "house", "a cottage", "a little home"]
VIEWS = ["a landscape with", "a landscape,", "a view of", "a scene with", "landscape:", "scenery with", "a scene:", "landscape,", "a view over"]

NOUNS = """apple table chair dog cat lamp bottle shoe train car bus window door garden flower bridge piano guitar violin teapot cup spoon fork plate horse cow sheep pig duck goose lion tiger zebra elephant giraffe monkey
whale shark fish turtle frog snake bird eagle owl parrot robot rocket spaceship dragon castle knight princess king queen wizard clock watch phone laptop keyboard mouse printer pencil book newspaper letter umbrella
hat coat dress shirt sock glove scarf pillow blanket bed sofa shelf bucket broom hammer saw nail screw ladder rope chain anchor boat ship ferry plane helicopter bicycle scooter truck tractor wagon tent lantern candle
pizza burger sandwich cake cookie bread cheese butter egg banana cherry grape lemonade pear peach plum melon carrot potato onion tomato pumpkin mushroom leaf branch river lake waterfall desert jungle forest island
volcano mountain cave road street city village church tower market school hospital airport station museum library kitchen bathroom bedroom cellar attic roof chimney fence gate well fountain statue painting mirror
vase basket barrel suitcase backpack wallet coin key lock bell drum trumpet flute harp camera telescope microscope magnet battery engine wheel tyre tire pedal saddle compass map globe flag kite balloon puppet doll teddy
snowman penguin polar bear fox wolf rabbit squirrel hedgehog mole bat spider ant bee butterfly ladybug snail worm octopus crab lobster jellyfish mermaid pirate astronaut dancer teacher baker farmer soldier dentist nurse
grandmother uncle baby child man woman crowd team party wedding birthday holiday winter summer autumn spring monday invoice meeting budget contract engine1 widget gizmo thingy unicorn dinosaur skateboard toaster fridge
kettle pan oven stove sink towel soap brush comb needle thread button zipper ribbon envelope stamp postcard""".split()
ADJECTIVES = """shiny fluffy wooden metal ancient modern happy sad angry lonely funny strange weird cosy cozy elegant rusty broken soft furry glassy sparkling glowing dusty wet sleepy brave quiet loud sweet sour spicy frozen
warm cool cute pretty beautiful nice lovely fancy simple fine good great gorgeous cheerful abstract geometric minimal childish retro vintage futuristic mysterious magical dreamy plain perfect regular neat tidy crooked
proper real fake friendly famous expensive cheap heavy light3 magnificent glossy matte polished""".replace("light3", "lightweight").split()
NAMES = "anna tom maria peter lucy sam paul emma jack sophie karl nina ben lena oscar mia george ella kandinsky picasso matisse miro mondrian klee bauhaus ikea lego pixar disney".split()
SYLLABLES = "ba be bi bo bu da de do du fa fe fi fo ga ge go gu ha he ho ka ke ki ko la le li lo lu ma me mi mo mu na ne no nu pa pe pi po ra re ri ro ru sa se si so ta te ti to tu va ve vi vo wa we xo ya yo za ze zu ing er ly ton ish est ment ous".split()

ASKS = ["gimme", "lemme see", "pls draw", "i wanna see", "plz make", "draw us", "could do with", "fancy", "get me", "build", "put", "ok draw", "give us", "i need you to draw", "i want you to draw", "draw", "please draw", "draw me", "paint", "make", "create", "generate", "show", "show me", "give me", "sketch", "render", "produce", "design", "make me", "imagine", "picture", "visualize", "let me see", "do", "please make", "please show me",
        "please create", "just draw", "now draw", "kindly draw", "help me draw", "i want", "i need", "i'd like", "i would like", "i would like to see", "i'd love to see", "i want to see", "we need", "i'm looking for", "let's have", "let there be",
        "there is", "there's", "here is", "we see", "i see", "you can see", "it shows", "this shows", "it has"]
QUESTIONS = ["can u draw", "could u draw", "can u make", "could you maybe draw", "would u draw", "can you do", "could you do", "could you put together", "can you please show", "may i please have", "could you possibly draw", "can you draw", "could you draw", "can you please draw", "could you please make", "would you draw", "can you make", "could you make", "would you mind drawing", "can i have", "could i have", "may i have", "can you show me", "could you show me",
             "how about", "what about", "can you paint", "will you draw", "would you please paint", "could you generate", "can you create", "is it possible to draw", "can i get", "could i get", "any chance of", "do you know how to draw",
             "what would it look like with", "why not draw", "can we have", "shall we draw", "could we see", "would it be possible to show"]
MEDIA = ["a picture of", "a drawing of", "an image of", "a picture with", "an image showing", "a drawing showing", "picture of", "image of", "a painting of", "a sketch of", "a simple picture of", "an illustration of", "a poster with", "a photo of",
         "a nice image of", "a card with", "a logo with", "an icon of", "a scene with", "drawing:", "picture:", "a picture that shows", "something with", "a graphic of", "clipart of", "a print of", "a simple drawing of", "a picture where there is"]
CLIP_MEDIA = ["a video of", "a clip of", "an animation of", "video of", "a short video of", "a short clip of", "an animated", "a movie of", "animation:", "video:", "a clip with", "a video with", "footage of", "a gif of", "a short film of",
              "a video in which there is", "a loop of"]
GREETINGS = ["hi", "hello", "hey", "hey there", "good morning", "ok", "okay", "so", "well", "um", "dear computer", "hi there", "now", "oh", "yes", "next", "again"]
CLOSINGS = ["thx", "ta", "ty", "pretty please", "if you would", "if that's ok", "for me", "right now", "when you can", "in this picture", "please", "thanks", "thank you", "if possible", "nothing else", "that's all", "if you can", "cheers", "thanks a lot", "thank you very much", "that is all", "no text", "would be nice", "and that's it", "as always", "ok?", "for now",
            "many thanks", "just that", "nothing more", "pls", "plz", "asap", "you know", "i think", "maybe", "only that"]
HEDGES = ["just", "simply", "maybe", "perhaps", "only", "kind of", "sort of", "basically", "like", "really", "actually", "you know", "say", "something like", "for example", "more or less", "well", "um", "ideally"]
DEGREES = ["very", "really", "quite", "rather", "pretty", "nice and", "fairly", "super", "so"]
SITS = ["is", "sits", "stands", "lies", "is placed", "is located", "is positioned", "goes", "rests", "is found", "appears", "floats", "hangs"]
PUTS = ["put", "place", "position", "set", "keep", "have"]
ROUND = [("what does", "look like"), ("what would", "look like"), ("what do", "look like"), ("do you have", ""), ("may i see", "please"), ("is there a way to get", ""), ("i wonder if you could draw", ""), ("my daughter wants", ""),
         ("it would be great to have", ""), ("please could you do", "for me"), ("have you got", "somewhere"), ("i was thinking of", "maybe"), ("for my school project i need", ""), ("let's see", "then"), ("can", "be drawn"), ("could", "be drawn please"),
         ("try", "this time"), ("my idea:", ""), ("prompt:", ""), ("the task is to draw", ""), ("we are looking for", "here"), ("if you can, draw", ""), ("my boss asked for", ""), ("the picture should have", ""), ("the image contains", ""), ("there should be", "")]
# verbs that say the speed: the way follows them
HASTE = {"fast": [("race", "races", "racing"), ("zoom", "zooms", "zooming"), ("dash", "dashes", "dashing"), ("rush", "rushes", "rushing"), ("shoot", "shoots", "shooting"), ("dart", "darts", "darting"), ("speed", "speeds", "speeding")],
         "slow": [("creep", "creeps", "creeping"), ("crawl", "crawls", "crawling"), ("inch", "inches", "inching"), ("amble", "ambles", "ambling")]}
