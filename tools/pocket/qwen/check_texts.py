"""Texts for the check of what lies outside the pocket worlds. None of these nouns and sentences is in the training lists."""

UNSEEN_NOUNS = """skyscraper motorcycle helicopter dinosaur kangaroo octopus hedgehog saxophone typewriter lighthouse windmill submarine volcano glacier pyramid
astronaut blacksmith gardener beekeeper sushi pancake broccoli avocado espresso chandelier hourglass trampoline parachute skateboard wheelbarrow porcupine chameleon
flamingo jellyfish raccoon squirrel tractor ambulance bulldozer carousel""".split()
UNSEEN_ADJECTIVES = "translucent nocturnal rustic bioluminescent clumsy ornate radiant whimsical frostbitten colossal gleaming sunlit weathered mechanical ethereal".split()

LONG = [
    "a beautiful woman walking down a busy street in Tokyo at night with neon signs reflecting in the puddles while people hurry past her with umbrellas",
    "An astronaut riding a horse on mars, cinematic, with two moons rising behind a ridge of rust-coloured mountains and a long trail of dust",
    "I would like to see an old fisherman who repairs his net in front of a wooden hut while seagulls fight over the last piece of bread on the pier",
    "The camera glides slowly over a misty valley, then rises above the clouds to reveal a city built entirely of glass and copper, glowing in the first light.",
    "Please make something that looks like the cover of a science fiction paperback from 1967, with a lonely robot, an enormous planet and hand-lettered type",
    "Two chess players sit across from each other in a train compartment; outside, snow-covered pines rush by, and neither of them has noticed that the board is upside down.",
    "a close-up of a watchmaker's hands assembling a tiny brass mechanism under a magnifying lamp, shallow depth of field, warm tungsten light, dust in the air",
    "My grandmother's kitchen as I remember it: copper pots, a checkered tablecloth, the smell of cinnamon, and the cat that always slept on the radiator",
    "A teenage inventor shows her solar-powered skateboard to a crowd of sceptical engineers at a county fair, everybody squints because the sun is low",
    "an overgrown greenhouse where vines have swallowed a grand piano, shafts of light falling through broken panes, dragonflies, moss, silence",
    "Imagine that gravity stopped working in a small bakery at five in the morning: flour everywhere, croissants drifting past the window, the baker upside down",
    "Several hundred lanterns float down a river while children run along the bank and try to keep up with the one that carries their grandfather's name",
    "a detailed map of an imaginary archipelago in the style of a sixteenth-century cartographer, with sea serpents, wind roses and illegible notes in the margins",
    "The last library on earth, seen from below: shelves spiral upwards for miles, librarians on ropes, one shaft of sunlight, dust like galaxies",
    "A wide shot of an abandoned amusement park after heavy rain. The ferris wheel is reflected in a puddle. A stray dog looks at its own reflection.",
    "Create an image for our quarterly newsletter about sustainable packaging; it should feel optimistic but not childish, and leave room for a headline on the left",
    "he said that the weather would change by noon but nobody who had lived on the coast for more than a year believed a single word of it",
    "a bowl of ramen photographed from above with chopsticks resting on the rim, soft-boiled egg, spring onions, nori, steam, dark slate table, editorial style",
    "an elderly couple dances in an empty ballroom while confetti from last night's party is still lying on the floor and a janitor pretends not to watch",
    "What would it look like if migrating geese carried tiny letters for people who have forgotten how to write to each other?",
]
LISTS = [
    "tractor, pancake, octopus", "a hedgehog, two flamingos and a lighthouse", "sushi, ramen, tempura, miso soup, green tea", "1girl, solo, looking at viewer, upper body, freckles",
    "helmet, goggles, parachute, rope, compass, whistle", "pyramid; volcano; glacier; fjord", "typewriter & hourglass & chandelier", "red velvet, brass, marble, smoked glass",
    "masterpiece, best quality, ultra-detailed, sunlit courtyard, bougainvillea", "a raccoon, a squirrel, a porcupine and their lawyer", "1. hedgehog 2. flamingo 3. raccoon",
    "avocado toast, espresso, newspaper, Tuesday", "moss, lichen, fern, bracken, heather, gorse", "north, south, east and west", "Monday, Tuesday, Thursday",
]
SCRIPTS = [
    "一只猫", "一只戴着帽子的猫坐在窗台上", "夜晚的东京街头，霓虹灯闪烁", "山の上の小さな家", "桜の木の下で本を読む少女", "猫が空を飛んでいる", "붉은 원 위의 파란 사각형", "바다 위의 등대와 갈매기", "красный круг над синим квадратом",
    "старый маяк на берегу моря ночью", "ένας γάτος στο παράθυρο", "το φεγγάρι πάνω από τη θάλασσα", "قطة سوداء على نافذة بيضاء", "منارة قديمة على شاطئ البحر", "חתול שחור על אדן החלון", "एक लाल घर के ऊपर चाँद",
    "समुद्र के किनारे एक पुराना घर", "แมวสีดำบนหน้าต่าง", "ein roter Kreis über einem blauen Quadrat", "eine schöne alte Brücke über dem Fluss bei Nacht", "un château au bord de la mer à l'aube",
    "une fille lit sous un cerisier en fleurs", "un niño corre detrás de una cometa", "o gato dorme na janela ensolarada", "kırmızı bir daire", "żółta łódź na spokojnym jeziorze", "gyönyörű őszi erdő reggel",
    "một con mèo ngồi trên cửa sổ", "mačka na prozoru", "🐙🚀✨", "a cat 🐈 on a roof 🏠 at 3am", "ich möchte ein Bild von einem Löwen", "Ein Mädchen mit einem roten Luftballon", "İstanbul'da gece", "Ωμέγα και άλφα",
]
SHORT = [
    "skyscraper", "a trampoline", "Zebra", "teebo in front of a windmill", "Promoudr", "xqzptlk vwrrgh", "a furious skyscraper in front of a zebra", "helicopter over a volcano", "The Lighthouse", "two hedgehogs on a skateboard",
    "a red tractor above a blue submarine", "a jellyfish to the left of a typewriter", "carousel at night", "a pancake on a white background", "kangaroo moves left", "an espresso, cinematic", "McDonald's parking lot", "R2-D2",
    "a Boeing 747-400", "H2O molecule", "50mm f/1.4 portrait", "(glacier:1.3), (fjord:0.8)", "GPT", "e=mc^2", "user@example.org", "https://example.org/a?b=c&d=e", "what?", "hello", "??", "42",
    "a red circle is what I dreamt of", "circle of friends", "the square root of nine", "star wars", "a heart of stone", "blue", "white noise", "the house always wins", "sea shanty choir", "a large language model",
]
