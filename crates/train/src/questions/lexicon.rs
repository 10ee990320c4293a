//! What captions call things, places, deeds, colours and numbers. Data alone; reading a caption with it does not
//! belong here.

/// One kind of thing.
pub struct Entry {
    /// As questions and answers call it.
    pub name: &'static str,
    /// The next wider kind; empty for none.
    pub broader: &'static str,
    /// What may be asked about it: `y` whether there is one, `n` how many, `c` its colour; `o` it can be an answer;
    /// `p` its name is a plural.
    pub uses: &'static str,
    /// Words (or pairs of words) for it beside the name; regular plurals are found by their singular.
    pub words: &'static [&'static str],
}

const fn e(
    name: &'static str,
    broader: &'static str,
    uses: &'static str,
    words: &'static [&'static str],
) -> Entry {
    Entry { name, broader, uses, words }
}

/// A wider kind stands before the narrower ones.
///
/// Not asked for with "is there": what captions leave out although it is there, such as trees, shirts and the sky.
#[rustfmt::skip]
pub const ENTRIES: &[Entry] = &[
    e("person", "", "yn", &["someone", "somebody", "individual", "adult", "rider", "performer", "worker", "player", "teenager", "teen",
        "youth", "friend", "runner", "jogger", "swimmer", "hiker", "climber", "skater", "soldier", "student", "athlete",
        "photographer", "passenger", "racer", "tourist", "driver", "dancer", "musician", "singer", "artist", "vendor", "chef",
        "pedestrian", "referee", "catcher", "batter", "pitcher", "umpire", "goalie", "gymnast", "clown", "customer", "wrestler",
        "boxer", "golfer", "shopper", "spectator", "onlooker", "guitarist", "drummer", "couple", "skateboarder", "surfer", "skier",
        "snowboarder", "biker", "bicyclist", "cyclist", "motorcyclist", "kayaker", "rower", "rollerblader", "parent", "figure",
        "owner", "human", "officer", "asian", "hockey player", "football player", "tennis player", "rock climber", "fan", "blond",
        "blonde", "brunette", "redhead", "member", "opponent", "teammate", "bystander", "sumo", "santa"]),
    e("man", "person", "yn", &["guy", "gentleman", "male", "businessman", "fisherman", "policeman", "fireman", "cowboy", "father", "dad",
        "groom", "elderly man", "hunter", "uncle", "monk"]),
    e("woman", "person", "yn", &["lady", "female", "mother", "mom", "bride", "cheerleader", "businesswoman", "grandmother", "ballerina"]),
    e("child", "person", "yn", &["kid", "toddler", "baby", "infant", "sibling"]),
    e("boy", "child", "yn", &["son", "brother", "schoolboy"]),
    e("girl", "child", "yn", &["daughter", "sister", "schoolgirl"]),
    e("group", "person", "", &["crowd", "team", "family", "band", "audience", "class", "gang", "troupe", "parade"]),

    e("animal", "", "yno", &["pet", "creature"]),
    e("dog", "animal", "ynco", &["puppy", "pup", "greyhound", "terrier", "retriever", "poodle", "collie", "german shepherd", "shepherd",
        "labrador", "lab", "dalmatian", "doberman", "hound", "bulldog", "canine", "dachshund", "husky", "pitbull", "rottweiler",
        "beagle", "boxer dog", "mutt", "corgi", "spaniel", "golden retriever", "doggie", "doggy", "chihuahua"]),
    e("cat", "animal", "ynco", &["kitten", "kitty", "feline"]),
    e("horse", "animal", "ynco", &["pony", "foal", "bronco", "stallion", "donkey", "mule"]),
    e("cow", "animal", "ynco", &["calf", "ox", "cattle", "bull", "steer"]),
    e("sheep", "animal", "yno", &["lamb", "goat", "ram"]),
    e("bird", "animal", "ynco", &["pigeon", "duck", "seagull", "goose", "swan", "parrot", "gull", "eagle", "hawk", "crane", "owl",
        "chicken", "turkey", "falcon", "flamingo", "pelican"]),
    e("fish", "animal", "yo", &["shark", "goldfish", "whale", "dolphin"]),
    e("elephant", "animal", "yno", &[]),
    e("bear", "animal", "ynco", &["polar bear"]),
    e("monkey", "animal", "yno", &["gorilla", "ape", "chimpanzee"]),
    e("camel", "animal", "yno", &["llama"]),
    e("deer", "animal", "yo", &["elk", "moose", "antelope"]),
    e("rabbit", "animal", "yno", &["bunny", "hare"]),
    e("fox", "animal", "yo", &["wolf", "coyote"]),
    e("squirrel", "animal", "yno", &[]),

    e("vehicle", "", "y", &["automobile"]),
    e("car", "vehicle", "ynco", &["sedan", "taxi", "cab", "race car", "racecar", "police car", "convertible"]),
    e("truck", "vehicle", "ynco", &["fire truck", "firetruck", "pickup", "lorry", "trailer", "tractor", "bulldozer"]),
    e("van", "vehicle", "ynco", &["suv", "jeep", "minivan", "camper"]),
    e("bus", "vehicle", "ynco", &["school bus", "tour bus"]),
    e("train", "vehicle", "ynco", &["tram", "trolley", "locomotive", "subway train", "subway"]),
    e("airplane", "vehicle", "yno", &["plane", "jet", "aircraft", "aeroplane", "helicopter"]),
    e("bicycle", "vehicle", "ynco", &["bike", "mountain bike", "tricycle", "unicycle", "bmx bike"]),
    e("motorcycle", "vehicle", "ynco", &["motorbike", "dirt bike", "dirtbike", "moped", "motor bike", "motocross bike", "motor scooter"]),
    e("scooter", "vehicle", "ynco", &[]),
    e("atv", "vehicle", "yno", &["four wheeler", "quad", "buggy", "dune buggy", "go cart", "go kart"]),
    e("boat", "vehicle", "ynco", &["sailboat", "ship", "yacht", "rowboat", "motorboat", "speedboat", "gondola"]),
    e("kayak", "vehicle", "ynco", &["canoe"]),
    e("raft", "vehicle", "ynco", &["inner tube", "innertube"]),
    e("cart", "vehicle", "ynco", &["shopping cart", "wagon", "carriage", "stroller", "buggy cart", "wheelbarrow"]),
    e("wheelchair", "vehicle", "yo", &[]),
    e("sled", "vehicle", "ynco", &["sleigh", "toboggan"]),

    e("ball", "", "ynco", &["tennis ball", "beach ball", "rubber ball"]),
    e("soccer ball", "ball", "yo", &["soccerball"]),
    e("football", "ball", "yo", &["rugby ball"]),
    e("basketball", "ball", "yo", &[]),
    e("baseball", "ball", "o", &["softball"]),
    e("volleyball", "ball", "yo", &[]),
    e("frisbee", "", "ynco", &["disc", "disk"]),
    e("bat", "", "yo", &["baseball bat"]),
    e("racket", "", "ynco", &["racquet", "tennis racket", "tennis racquet"]),
    e("glove", "", "co", &["baseball glove", "mitt", "mitten"]),
    e("skateboard", "", "ynco", &["skate board"]),
    e("surfboard", "", "ynco", &["surf board", "boogie board", "bodyboard", "wakeboard", "body board", "paddle board"]),
    e("snowboard", "", "ynco", &["snow board"]),
    e("skis", "", "yop", &["ski"]),
    e("skates", "", "yop", &["rollerblades", "roller blades", "ice skates", "roller skates", "rollerskates", "skate"]),
    e("trampoline", "", "ynco", &[]),
    e("swing", "", "ynco", &["swingset", "swing set", "tire swing", "hammock"]),
    e("slide", "", "yco", &["water slide", "waterslide"]),
    e("ramp", "", "yco", &["halfpipe", "half pipe"]),
    e("hurdle", "", "yno", &["obstacle"]),
    e("hoop", "", "co", &["hula hoop"]),
    e("net", "", "co", &["goal"]),
    e("kite", "", "ynco", &["parachute", "parasail"]),
    e("balloon", "", "ynco", &[]),
    e("bubble", "", "yo", &[]),
    e("toy", "", "ynco", &["stuffed animal", "teddy bear", "doll", "teddy"]),
    e("stick", "", "yno", &["branch", "log", "twig", "tree branch"]),
    e("hockey stick", "stick", "yo", &[]),
    e("pole", "", "co", &["rod", "fishing pole", "fishing rod", "post"]),
    e("paddle", "", "yo", &["oar"]),
    e("rope", "", "ynco", &["jump rope", "cable", "cord"]),
    e("leash", "", "yco", &[]),
    e("collar", "", "co", &["dog collar"]),
    e("harness", "", "co", &[]),
    e("muzzle", "", "co", &[]),
    e("bone", "", "yo", &[]),
    e("tire", "", "yo", &["wheel"]),
    e("gun", "", "yco", &["rifle", "pistol", "weapon", "water gun"]),
    e("sword", "", "yo", &["knife"]),
    e("guitar", "", "ynco", &["electric guitar", "acoustic guitar"]),
    e("violin", "", "yo", &["cello", "fiddle"]),
    e("drum", "", "yno", &[]),
    e("trumpet", "", "yo", &["trombone", "saxophone", "horn", "flute", "tuba"]),
    e("accordion", "", "yo", &[]),
    e("piano", "", "yo", &[]),
    e("instrument", "", "", &["musical instrument"]),
    e("microphone", "", "yo", &["mic"]),
    e("camera", "", "o", &["video camera"]),
    e("cellphone", "", "yco", &["phone", "cell phone", "mobile phone", "telephone"]),
    e("computer", "", "yo", &["laptop"]),
    e("television", "", "yo", &["tv"]),
    e("book", "", "yco", &["magazine"]),
    e("newspaper", "", "yo", &[]),
    e("sign", "", "ynco", &["poster", "banner", "placard"]),
    e("flag", "", "ynco", &[]),
    e("umbrella", "", "ynco", &["parasol"]),
    e("bag", "", "ynco", &["purse", "handbag", "shopping bag", "suitcase", "luggage"]),
    e("backpack", "bag", "yco", &["rucksack", "back pack"]),
    e("basket", "", "ynco", &[]),
    e("box", "", "yco", &["crate"]),
    e("bucket", "", "yco", &["pail"]),
    e("bottle", "", "ynco", &["water bottle", "beer bottle"]),
    e("cup", "", "ynco", &["mug", "glass"]),
    e("drink", "", "yo", &["beer", "soda", "juice", "beverage", "wine", "coffee"]),
    e("food", "", "y", &["snack", "meal", "lunch", "dinner"]),
    e("ice cream", "food", "yo", &["icecream", "ice cream cone", "popsicle"]),
    e("cake", "food", "yo", &["cupcake", "birthday cake"]),
    e("sandwich", "food", "yo", &["burger", "hamburger", "hot dog", "hotdog"]),
    e("pizza", "food", "yo", &[]),
    e("fruit", "food", "yo", &["apple", "banana", "orange slice", "watermelon"]),
    e("candy", "food", "yo", &["lollipop", "cotton candy"]),
    e("cigarette", "", "yo", &["cigar"]),
    e("flower", "", "yco", &["rose", "bouquet"]),
    e("hose", "", "yco", &["sprinkler", "garden hose"]),
    e("shovel", "", "yo", &["broom", "rake"]),
    e("snowball", "", "yno", &[]),
    e("bench", "", "ynco", &["park bench"]),
    e("chair", "", "ynco", &["armchair", "stool", "lawn chair", "seat"]),
    e("couch", "", "ynco", &["sofa"]),
    e("bed", "", "ynco", &["mattress"]),
    e("table", "", "ynco", &["picnic table", "desk", "counter"]),
    e("tent", "", "ynco", &[]),
    e("blanket", "", "co", &["towel", "rug", "sheet"]),
    e("pillow", "", "ynco", &[]),
    e("statue", "", "ynco", &["sculpture"]),
    e("fountain", "", "yno", &[]),
    e("waterfall", "", "yo", &["falls"]),
    e("bridge", "", "yo", &[]),
    e("ladder", "", "yo", &[]),
    e("stairs", "", "ycop", &["step", "stair", "staircase", "stairway"]),
    e("fence", "", "yco", &[]),
    e("railing", "", "o", &["rail", "handrail"]),
    e("wall", "", "co", &["brick wall"]),
    e("door", "", "co", &["doorway"]),
    e("window", "", "o", &[]),
    e("building", "", "co", &["skyscraper"]),
    e("house", "", "co", &["home", "cabin"]),
    e("tunnel", "", "yco", &["tube"]),
    e("rock", "", "o", &["boulder", "stone", "cliff"]),
    e("tree", "", "o", &["tree trunk"]),
    e("puddle", "", "yo", &[]),
    e("wave", "", "o", &[]),
    e("pool", "", "yo", &["swimming pool"]),
    e("fire", "", "yo", &["campfire", "bonfire"]),
    e("mud", "", "o", &[]),
    e("mask", "", "yco", &[]),

    e("shirt", "", "c", &["t shirt", "tshirt", "tee shirt", "jersey", "polo", "blouse", "tank top"]),
    e("sweater", "shirt", "c", &["sweatshirt", "hoodie", "hooded sweatshirt", "cardigan"]),
    e("jacket", "", "c", &["coat", "parka", "windbreaker"]),
    e("vest", "", "c", &["life vest", "life jacket", "lifejacket"]),
    e("dress", "", "yco", &["gown", "sundress"]),
    e("skirt", "", "c", &["kilt"]),
    e("suit", "", "c", &["tuxedo"]),
    e("uniform", "", "c", &[]),
    e("outfit", "", "c", &["costume", "clothing", "clothes"]),
    e("wetsuit", "", "co", &["wet suit", "snowsuit", "jumpsuit"]),
    e("swimsuit", "", "co", &["bathing suit", "bikini", "swim suit", "leotard"]),
    e("shorts", "", "cp", &["swim trunks", "trunks", "swimming trunks", "swim shorts"]),
    e("pants", "", "cp", &["trousers", "jeans", "overalls", "leggings"]),
    e("shoes", "", "cp", &["shoe", "sneakers", "sneaker", "sandals", "boots", "boot", "sandal"]),
    e("socks", "", "cp", &["sock", "stockings"]),
    e("hat", "", "yco", &["cap", "cowboy hat", "beanie", "baseball cap", "straw hat", "bonnet", "ball cap", "winter hat", "sombrero"]),
    e("helmet", "", "yco", &["hard hat", "hardhat"]),
    e("bandanna", "", "yco", &["bandana", "headband", "headscarf", "turban", "scarf"]),
    e("sunglasses", "", "ycop", &["dark glasses", "shades"]),
    e("goggles", "", "ycop", &["goggle", "swim goggles"]),
    e("glasses", "", "cop", &["eyeglasses"]),
    e("headphones", "", "yop", &["earphones"]),
    e("tie", "", "co", &["necktie", "bow tie"]),
    e("robe", "", "c", &["bathrobe"]),
    e("mat", "", "c", &["carpet"]),
    e("curtain", "", "c", &[]),
    e("ribbon", "", "c", &["bow"]),
    e("necklace", "", "c", &[]),
    e("apron", "", "co", &[]),
    e("hair", "", "c", &["mohawk", "wig", "pigtail"]),
];

/// Plurals that no rule finds.
pub const IRREGULAR: &[(&str, &str)] = &[
    ("people", "person"),
    ("men", "man"),
    ("women", "woman"),
    ("children", "child"),
    ("businessmen", "man"),
    ("policemen", "man"),
    ("fishermen", "man"),
    ("firemen", "man"),
    ("gentlemen", "man"),
    ("cowboys", "man"),
    ("geese", "bird"),
    ("cattle", "cow"),
    ("calves", "cow"),
    ("oxen", "cow"),
    ("fellows", "man"),
    ("wolves", "fox"),
    ("knives", "sword"),
    ("bunnies", "rabbit"),
];

/// Different words for what may be one and the same thing: one of them neither denies nor proves the other.
#[rustfmt::skip]
pub const CONFUSABLE: &[&[&str]] = &[
    &["man", "boy"], &["woman", "girl"], &["man", "group"], &["woman", "group"], &["child", "group"],
    &["bicycle", "motorcycle", "scooter", "atv"], &["car", "van", "truck", "atv", "bus"], &["boat", "kayak", "raft", "surfboard", "paddle"],
    &["skateboard", "scooter", "surfboard", "snowboard", "skis", "sled", "skates"],
    &["frisbee", "ball", "toy", "hoop"], &["stick", "pole", "bat", "paddle", "toy", "bone"], &["fox", "dog"], &["horse", "cow", "deer", "camel"],
    &["cup", "bottle", "drink", "bucket"], &["cart", "car", "sled", "wheelchair", "bag"], &["hat", "helmet", "bandanna", "hair"],
    &["sunglasses", "glasses", "goggles", "mask"], &["chair", "bench", "couch", "swing", "table", "bed", "wheelchair"], &["couch", "bed", "blanket", "pillow"],
    &["shirt", "jacket", "vest", "suit", "uniform", "outfit", "dress", "wetsuit", "swimsuit"],
    &["dress", "skirt", "outfit", "swimsuit"], &["shorts", "pants", "skirt", "swimsuit", "wetsuit", "outfit", "uniform", "suit"],
    &["sign", "flag", "poster", "book", "newspaper"], &["wall", "building", "house", "door", "fence", "railing"], &["tunnel", "slide", "raft"],
    &["hurdle", "fence", "pole", "ramp", "railing"], &["ramp", "slide", "stairs"], &["rope", "leash", "hose", "harness", "collar", "muzzle"],
    &["kite", "balloon"], &["fountain", "hose", "puddle", "waterfall", "pool"], &["puddle", "mud", "pool", "wave"], &["bag", "box", "basket"],
    &["toy", "stick", "bone"], &["soccer ball", "football", "basketball", "volleyball"], &["baseball", "glove"], &["microphone", "guitar", "instrument", "violin", "drum", "trumpet", "accordion", "piano"], &["net", "racket", "fence", "hoop"],
    &["tire", "swing", "toy"], &["computer", "television"], &["food", "drink", "fruit"], &["statue", "fountain"], &["camera", "cellphone"],
    &["table", "bench"], &["sword", "stick", "gun", "toy"], &["bird", "kite", "airplane"], &["rock", "wall", "statue"], &["stairs", "ladder", "railing"],
];

/// Words that a noun may follow at once without being the thing itself: "a dog house" shows no dog for sure.
#[rustfmt::skip]
pub const HEADS: &[&str] = &[
    "station", "track", "tracks", "stop", "race", "racing", "races", "show", "food", "dock", "shop", "store", "park", "lot", "field", "court",
    "game", "match", "slope", "lift", "trail", "path", "lane", "rack", "rink", "terminal", "print", "stand", "hood", "trick", "tricks", "team",
    "practice", "stroke", "player", "players", "rider", "riders", "like", "board", "course", "competition", "equipment", "line", "uniform", "costume", "top", "tank",
];

/// What each is called by captions. One that is vague or a mixture has no name: it only contradicts.
#[rustfmt::skip]
pub const COLORS: &[(&str, &str)] = &[
    ("red", "red"), ("maroon", ""), ("burgundy", ""), ("blue", "blue"), ("navy", "blue"), ("turquoise", ""), ("teal", ""), ("aqua", ""),
    ("green", "green"), ("lime", "green"), ("yellow", "yellow"), ("gold", ""), ("golden", ""), ("black", "black"), ("white", "white"),
    ("brown", "brown"), ("tan", ""), ("beige", ""), ("khaki", ""), ("orange", "orange"), ("pink", "pink"), ("purple", "purple"), ("violet", ""),
    ("gray", "gray"), ("grey", "gray"), ("silver", ""), ("cream", ""), ("blond", ""), ("blonde", ""), ("peach", ""), ("rust", ""), ("lavender", ""),
    ("colorful", ""), ("multicolored", ""), ("striped", ""), ("plaid", ""), ("checkered", ""), ("spotted", ""), ("patterned", ""),
    ("camouflage", ""), ("floral", ""), ("tie", ""), ("dyed", ""), ("rainbow", ""), ("flowered", ""), ("polka", ""), ("painted", ""), ("brindle", ""),
];

/// Vague colours beside one that they do not contradict.
pub const SHADES: &[(&str, &str)] = &[
    ("tan", "brown"),
    ("beige", "brown"),
    ("golden", "brown"),
    ("khaki", "brown"),
    ("gold", "yellow"),
    ("golden", "yellow"),
    ("silver", "gray"),
    ("maroon", "red"),
    ("burgundy", "red"),
    ("turquoise", "blue"),
    ("teal", "blue"),
    ("aqua", "blue"),
    ("cream", "white"),
    ("beige", "white"),
    ("violet", "purple"),
    ("lavender", "purple"),
    ("rust", "brown"),
    ("blond", "yellow"),
    ("blonde", "yellow"),
];

/// The numbers that can be an answer.
pub const NUMBERS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Words before a noun that say how many: exactly that, or with `false` at least.
#[rustfmt::skip]
pub const AMOUNTS: &[(&str, usize, bool)] = &[
    ("a", 1, true), ("an", 1, true), ("one", 1, true), ("1", 1, true), ("single", 1, true), ("lone", 1, true), ("two", 2, true), ("2", 2, true), ("both", 2, true),
    ("three", 3, true), ("3", 3, true), ("four", 4, true), ("4", 4, true), ("five", 5, true), ("5", 5, true), ("six", 6, true), ("seven", 7, true),
    ("eight", 8, true), ("nine", 9, true), ("ten", 10, true), ("some", 2, false), ("few", 2, false), ("several", 3, false), ("many", 3, false), ("multiple", 2, false),
    ("various", 2, false), ("numerous", 3, false), ("other", 1, false), ("others", 1, false), ("each", 2, false), ("different", 2, false), ("these", 2, false), ("all", 2, false),
    ("dozen", 6, false), ("number", 2, false), ("no", 0, true),
];

/// Nouns that count others with "of".
pub const MEASURES: &[(&str, usize, bool)] = &[
    ("couple", 2, true),
    ("pair", 2, true),
    ("trio", 3, true),
    ("group", 3, false),
    ("crowd", 3, false),
    ("team", 3, false),
    ("herd", 3, false),
    ("bunch", 3, false),
    ("row", 3, false),
    ("flock", 3, false),
    ("lots", 3, false),
    ("lot", 3, false),
    ("pack", 3, false),
    ("line", 3, false),
    ("family", 3, false),
    ("gang", 3, false),
    ("dozens", 6, false),
    ("number", 3, false),
    ("variety", 3, false),
    ("set", 1, false),
];

/// Words that refer to what has been named, or say whose it is.
pub const DEFINITE: &[&str] = &["the", "his", "her", "its", "their", "this", "that", "him", "my"];

/// Between a number or a colour and its noun none of these stands.
#[rustfmt::skip]
pub const BOUNDARIES: &[&str] = &[
    ",", "and", "or", "with", "in", "on", "at", "by", "to", "from", "near", "while", "is", "are", "of", "'s", "into", "over", "through", "as", "for", "wearing", "holding",
    "has", "have", "behind", "under", "against", "along", "who", "that", "being", "after", "before", "around", "across", "toward", "towards", "it", "onto", "up", "down", "off",
];
