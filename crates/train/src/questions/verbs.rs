//! What captions call deeds and places. Data alone.

/// A deed and its forms in the present tense, third person first.
pub struct Deed {
    /// As an answer: the participle.
    pub name: &'static str,
    /// Third person singular and plural.
    pub forms: [&'static str; 2],
}

const fn d(name: &'static str, singular: &'static str, plural: &'static str) -> Deed {
    Deed { name, forms: [singular, plural] }
}

/// What somebody or an animal can be seen doing.
#[rustfmt::skip]
pub const DEEDS: &[Deed] = &[
    d("running", "runs", "run"), d("jumping", "jumps", "jump"), d("leaping", "leaps", "leap"), d("walking", "walks", "walk"),
    d("standing", "stands", "stand"), d("sitting", "sits", "sit"), d("swimming", "swims", "swim"), d("climbing", "climbs", "climb"),
    d("riding", "rides", "ride"), d("playing", "plays", "play"), d("sleeping", "sleeps", "sleep"), d("eating", "eats", "eat"),
    d("drinking", "drinks", "drink"), d("surfing", "surfs", "surf"), d("skateboarding", "skateboards", "skateboard"),
    d("snowboarding", "snowboards", "snowboard"), d("skiing", "skis", "ski"), d("dancing", "dances", "dance"), d("singing", "sings", "sing"),
    d("kicking", "kicks", "kick"), d("throwing", "throws", "throw"), d("catching", "catches", "catch"), d("reading", "reads", "read"),
    d("fishing", "fishes", "fish"), d("sliding", "slides", "slide"), d("swinging", "swings", "swing"), d("splashing", "splashes", "splash"),
    d("posing", "poses", "pose"), d("biking", "bikes", "bike"), d("kayaking", "kayaks", "kayak"), d("hiking", "hikes", "hike"),
    d("digging", "digs", "dig"), d("fighting", "fights", "fight"), d("kissing", "kisses", "kiss"), d("hugging", "hugs", "hug"),
    d("painting", "paints", "paint"), d("cooking", "cooks", "cook"), d("talking", "talks", "talk"), d("crawling", "crawls", "crawl"),
    d("lying", "lies", "lie"), d("laying", "lays", "lay"), d("performing", "performs", "perform"), d("wading", "wades", "wade"),
    d("pulling", "pulls", "pull"), d("pushing", "pushes", "push"), d("chasing", "chases", "chase"), d("hanging", "hangs", "hang"),
    d("flying", "flies", "fly"), d("rowing", "rows", "row"), d("racing", "races", "race"), d("shaking", "shakes", "shake"),
    d("sniffing", "sniffs", "sniff"), d("rolling", "rolls", "roll"), d("licking", "licks", "lick"), d("biting", "bites", "bite"),
    d("chewing", "chews", "chew"), d("skating", "skates", "skate"), d("sledding", "sleds", "sled"), d("wrestling", "wrestles", "wrestle"),
    d("kneeling", "kneels", "kneel"), d("crouching", "crouches", "crouch"), d("diving", "dives", "dive"), d("writing", "writes", "write"),
    d("smoking", "smokes", "smoke"), d("paddling", "paddles", "paddle"), d("holding", "holds", "hold"), d("carrying", "carries", "carry"),
    d("jogging", "jogs", "jog"), d("resting", "rests", "rest"), d("waiting", "waits", "wait"), d("driving", "drives", "drive"),
    d("rollerblading", "rollerblades", "rollerblade"), d("laughing", "laughs", "laugh"), d("smiling", "smiles", "smile"), d("waving", "waves", "wave"),
    d("petting", "pets", "pet"), d("hitting", "hits", "hit"), d("watching", "watches", "watch"), d("looking", "looks", "look"), d("leaning", "leans", "lean"),
    d("shooting", "shoots", "shoot"), d("grinding", "grinds", "grind"), d("balancing", "balances", "balance"), d("wearing", "wears", "wear"), d("fetching", "fetches", "fetch"),
];

/// Deeds that may be one and the same, or done at once.
#[rustfmt::skip]
pub const ALIKE: &[&[&str]] = &[
    &["running", "racing", "chasing", "playing", "jogging", "walking", "fetching", "hiking"],
    &["jumping", "leaping", "flying", "diving", "playing", "catching", "grinding", "performing", "swinging", "hanging"],
    &["standing", "posing", "waiting", "talking", "watching", "looking", "holding", "smiling", "performing", "leaning", "smoking", "singing", "throwing", "shooting"],
    &["sitting", "resting", "waiting", "posing", "kneeling", "crouching", "reading", "talking", "watching", "smiling", "riding", "fishing", "swinging", "eating", "drinking"],
    &["lying", "laying", "sleeping", "resting", "rolling", "playing", "crawling", "sliding"],
    &["swimming", "wading", "splashing", "playing", "diving", "surfing", "rolling"],
    &["riding", "biking", "racing", "driving", "skateboarding", "surfing", "snowboarding", "sledding", "sliding", "performing", "jumping", "grinding", "balancing"],
    &["skiing", "snowboarding", "sliding", "sledding", "jumping"], &["skating", "rollerblading", "skateboarding", "jumping", "performing"],
    &["kayaking", "rowing", "paddling", "riding"], &["eating", "drinking", "biting", "chewing", "licking", "playing"],
    &["fighting", "wrestling", "playing", "biting", "chasing", "running", "jumping"], &["dancing", "performing", "playing", "jumping", "singing"],
    &["carrying", "holding", "walking", "running", "fetching", "chewing", "biting", "playing", "pulling", "pushing"], &["kicking", "playing", "running", "fighting", "jumping", "hitting"],
    &["throwing", "playing", "hitting", "swinging", "standing"], &["sniffing", "digging", "playing", "licking", "eating", "standing", "walking"], &["shaking", "splashing", "swimming", "standing"],
    &["kissing", "hugging", "licking", "posing", "standing"], &["painting", "writing", "reading"], &["climbing", "hiking", "hanging", "jumping", "crawling", "crouching"], &["walking", "hiking", "standing", "crossing", "wading", "pushing", "pulling", "jogging", "petting"],
    &["laughing", "smiling", "posing", "playing", "talking"],
];

/// Deeds that everybody on a photo does a little: no answer, and no wrong one.
pub const FAINT: &[&str] = &[
    "watching",
    "looking",
    "smiling",
    "wearing",
    "holding",
    "carrying",
    "waiting",
    "laughing",
    "performing",
    "waving",
];

/// Deeds done to a thing, and the words between: "sitting on", "jumping over".
#[rustfmt::skip]
pub const TRANSITIVE: &[(&str, &[&str])] = &[
    ("holding", &["", "up", "onto", "on to"]), ("carrying", &["", "around"]), ("throwing", &[""]), ("kicking", &[""]), ("riding", &["", "on", "in"]), ("catching", &[""]),
    ("chasing", &["", "after"]), ("pushing", &[""]), ("pulling", &["", "on"]), ("eating", &[""]), ("drinking", &["", "from"]), ("hitting", &[""]),
    ("swinging", &["", "on"]), ("climbing", &["", "up", "on", "down"]), ("petting", &[""]), ("walking", &["", "on", "over"]), ("driving", &[""]), ("reading", &[""]), ("playing", &["", "with", "on"]),
    ("jumping", &["over", "on", "off", "into", "onto", "through"]), ("leaping", &["over", "into"]), ("sitting", &["on", "in", "at", "by"]), ("standing", &["on", "by", "in", "behind"]), ("lying", &["on"]),
    ("laying", &["on"]), ("leaning", &["on", "against", "over"]), ("looking", &["at", "through", "out"]), ("sliding", &["down", "on"]), ("running", &["with", "through", "after"]),
    ("chewing", &["", "on"]), ("biting", &["", "on"]), ("fetching", &[""]), ("wearing", &[""]), ("smoking", &[""]), ("hugging", &[""]), ("hanging", &["from", "on", "onto"]), ("swimming", &["with", "in", "after"]), ("sleeping", &["on"]),
    ("paddling", &["", "in"]), ("rowing", &["", "in"]), ("balancing", &["on"]), ("watching", &[""]), ("grinding", &["", "on"]), ("sniffing", &[""]), ("licking", &[""]),
];

/// A place: the words for it, the phrase that answers "where", and the other places that it may be part of.
pub struct Place {
    pub phrase: &'static str,
    pub words: &'static [&'static str],
    pub alike: &'static [&'static str],
}

const fn p(phrase: &'static str, words: &'static [&'static str], alike: &'static [&'static str]) -> Place {
    Place { phrase, words, alike }
}

#[rustfmt::skip]
pub const PLACES: &[Place] = &[
    p("on the beach", &["beach", "shore", "seashore", "shoreline", "sand"], &["in the ocean", "in the water", "by the lake", "in the desert", "on the rocks"]),
    p("in the snow", &["snow"], &["on the ice", "on a mountain", "on a hill", "in the forest"]),
    p("on the ice", &["ice", "rink"], &["in the snow", "by the lake", "in the water"]),
    p("on the grass", &["grass", "lawn"], &["in a field", "in the park", "in the yard", "on a hill", "on the playground", "on a court", "in the forest", "on a track"]),
    p("in a field", &["field", "meadow", "pasture"], &["on the grass", "in the park", "in the yard", "on a hill", "on a court", "on a track", "in the forest"]),
    p("in the park", &["park"], &["on the grass", "in a field", "on the playground", "on the path", "on the sidewalk", "in the forest", "in the yard", "by the lake", "on the street", "on a hill", "in the city"]),
    p("in the yard", &["yard", "backyard", "garden"], &["on the grass", "in a field", "in the park", "on the playground", "in a pool"]),
    p("on a hill", &["hill", "hillside", "slope"], &["on a mountain", "on the grass", "in a field", "in the snow", "on the path", "on the rocks", "in the park"]),
    p("on a mountain", &["mountain", "mountainside", "mountaintop", "peak"], &["on a hill", "in the snow", "on the rocks", "on the path", "in the desert", "in the forest", "by the lake"]),
    p("on the rocks", &["rock", "cliff", "boulder"], &["on a mountain", "on a hill", "on the beach", "in the river", "in the ocean", "by the lake", "in the forest", "in the desert", "in the water", "on the path"]),
    p("on the street", &["street", "road", "highway"], &["on the sidewalk", "in the city", "on the path", "in the park", "at a market"]),
    p("on the sidewalk", &["sidewalk", "pavement"], &["on the street", "in the city", "on the path", "in the park", "at a market"]),
    p("in the city", &["city", "downtown"], &["on the street", "on the sidewalk", "in the park", "at a market", "in a store"]),
    p("in the forest", &["forest", "woods", "wood", "jungle"], &["on the path", "on the grass", "in the park", "on a mountain", "in the river", "in the snow", "on a hill", "in a field", "on the rocks"]),
    p("on the path", &["path", "trail"], &["on the street", "on the sidewalk", "in the forest", "in the park", "on a mountain", "on a hill", "on a track", "on the rocks"]),
    p("in a pool", &["pool"], &["in the water", "in the yard"]),
    p("in the ocean", &["ocean", "sea", "surf"], &["on the beach", "in the water", "by the lake", "on the rocks", "in the river"]),
    p("by the lake", &["lake", "pond"], &["in the water", "in the river", "in the ocean", "on the beach", "in the park", "on the ice", "on the rocks", "on a mountain"]),
    p("in the river", &["river", "stream", "creek", "rapid"], &["in the water", "by the lake", "in the ocean", "in the forest", "on the rocks"]),
    p("in the water", &["water"], &["in a pool", "in the ocean", "by the lake", "in the river", "on the beach", "on the ice", "on the rocks"]),
    p("on the playground", &["playground"], &["in the park", "on the grass", "in the yard"]),
    p("in the desert", &["desert", "dune"], &["on the beach", "on a mountain", "on the rocks", "on a hill", "on the path"]),
    p("on a track", &["track", "racetrack", "course"], &["on the grass", "in a field", "on the street", "on the path"]),
    p("on a court", &["court", "gym", "gymnasium"], &["in a field", "on the grass"]),
    p("on a stage", &["stage"], &["at a restaurant", "in a room"]),
    p("in a store", &["store", "shop", "mall"], &["in the city", "at a market", "on the street", "on the sidewalk", "in a room"]),
    p("at a market", &["market", "fair", "festival"], &["in the city", "in a store", "on the street", "on the sidewalk"]),
    p("at a restaurant", &["restaurant", "cafe", "bar", "diner"], &["in a room", "on a stage", "in the kitchen", "in the city", "on the street", "on the sidewalk"]),
    p("in the kitchen", &["kitchen"], &["in a room", "at a restaurant"]),
    p("in a room", &["room", "bedroom", "indoor", "hallway", "carpet"], &["in the kitchen", "at a restaurant", "in a store", "on a stage", "on the bed", "on the couch"]),
    p("on the bed", &["bed", "mattress"], &["in a room", "on the couch"]),
    p("on the couch", &["couch", "sofa"], &["in a room", "on the bed"]),
];

/// Words before the name of a place that say that somebody is there.
pub const THERE: &[&str] = &[
    "on", "in", "at", "through", "down", "along", "across", "into", "by", "near", "inside", "onto", "up",
    "over",
];
