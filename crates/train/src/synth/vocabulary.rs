//! What captions call the detector's classes, numbers and scenes. Data alone; reading a caption with it does not
//! belong here.

use super::nouns::Amount;

/// The usual longer side of a class, in centimetres; what is not listed is as large as a person.
pub fn size_cm(label: &str) -> f32 {
    SIZES.iter().find(|(name, _)| *name == label).map_or(170.0, |(_, size_cm)| *size_cm)
}

/// Classes that are mostly seen above the ground.
pub const RAISED: &[&str] = &["airplane", "bird", "kite", "frisbee", "sports ball", "clock", "traffic light"];

#[rustfmt::skip]
const SIZES: &[(&str, f32)] = &[
    ("person", 170.0), ("bicycle", 170.0), ("car", 420.0), ("motorcycle", 210.0), ("airplane", 2000.0),
    ("bus", 1000.0), ("train", 2000.0), ("truck", 700.0), ("boat", 500.0), ("traffic light", 100.0),
    ("fire hydrant", 80.0), ("stop sign", 90.0), ("parking meter", 130.0), ("bench", 160.0), ("bird", 30.0),
    ("cat", 50.0), ("dog", 80.0), ("horse", 230.0), ("sheep", 120.0), ("cow", 230.0), ("elephant", 450.0),
    ("bear", 200.0), ("zebra", 220.0), ("giraffe", 480.0), ("backpack", 50.0), ("umbrella", 100.0),
    ("handbag", 40.0), ("tie", 50.0), ("suitcase", 65.0), ("frisbee", 27.0), ("skis", 170.0),
    ("snowboard", 150.0), ("sports ball", 24.0), ("kite", 120.0), ("baseball bat", 85.0),
    ("baseball glove", 30.0), ("skateboard", 80.0), ("surfboard", 200.0), ("tennis racket", 70.0),
    ("bottle", 28.0), ("wine glass", 20.0), ("cup", 14.0), ("fork", 20.0), ("knife", 25.0), ("spoon", 18.0),
    ("bowl", 25.0), ("banana", 20.0), ("apple", 10.0), ("sandwich", 20.0), ("orange", 10.0),
    ("broccoli", 20.0), ("carrot", 18.0), ("hot dog", 18.0), ("pizza", 35.0), ("donut", 12.0),
    ("cake", 30.0), ("chair", 95.0), ("couch", 200.0), ("potted plant", 80.0), ("bed", 210.0),
    ("dining table", 160.0), ("toilet", 75.0), ("tv", 100.0), ("laptop", 38.0), ("mouse", 12.0),
    ("remote", 18.0), ("keyboard", 45.0), ("cell phone", 15.0), ("microwave", 50.0), ("oven", 80.0),
    ("toaster", 30.0), ("sink", 60.0), ("refrigerator", 180.0), ("book", 25.0), ("clock", 35.0),
    ("vase", 30.0), ("scissors", 18.0), ("teddy bear", 40.0), ("hair drier", 22.0), ("toothbrush", 18.0),
];

/// Classes, the amount that a word stands for, and the words (or pairs of words); regular plurals are found by
/// their singular.
///
/// Left out on purpose, since captions mostly mean something else by them: orange (a colour), glasses (worn),
/// watch, board, ski (a slope, a pole).
pub const NOUNS: &[(&[&str], Amount, &[&str])] = &[
    (&["person"], Amount::One, PEOPLE),
    (&["person"], Amount::Some(3), &["people", "spectators", "onlookers", "kids"]),
    (&["person"], Amount::Some(2), &["men", "women", "children", "gentlemen", "policemen", "fishermen"]),
    (&["person"], Amount::Exactly(2), &["couple"]),
    (&["person"], Amount::Exactly(3), &["family"]),
    (&["person"], Amount::Exactly(4), &["team", "group"]),
    (&["person"], Amount::Exactly(6), &["crowd", "audience"]),
    (&["person", "bicycle"], Amount::One, &["cyclist", "bicyclist", "biker"]),
    (&["person", "motorcycle"], Amount::One, &["motorcyclist"]),
    (&["person", "skateboard"], Amount::One, &["skateboarder"]),
    (&["person", "surfboard"], Amount::One, &["surfer"]),
    (&["person", "skis"], Amount::One, &["skier"]),
    (&["person", "snowboard"], Amount::One, &["snowboarder"]),
    (&["bicycle"], Amount::One, &["bicycle", "bike", "mountain bike", "tricycle"]),
    (&["motorcycle"], Amount::One, &["motorcycle", "motorbike", "dirt bike", "scooter", "moped"]),
    (&["car"], Amount::One, &["car", "taxi", "cab", "van", "suv", "jeep", "sedan", "vehicle", "automobile"]),
    (&["airplane"], Amount::One, &["airplane", "plane", "jet", "airliner", "aeroplane", "aircraft"]),
    (&["bus"], Amount::One, &["bus"]),
    (&["train"], Amount::One, &["train", "tram", "trolley", "locomotive", "subway train"]),
    (&["truck"], Amount::One, &["truck", "firetruck", "fire truck", "lorry", "pickup"]),
    (&["boat"], Amount::One, &["boat", "canoe", "kayak", "sailboat", "ship", "raft", "rowboat", "yacht"]),
    (&["traffic light"], Amount::One, &["traffic light", "traffic signal", "stoplight", "street light"]),
    (&["fire hydrant"], Amount::One, &["fire hydrant", "hydrant"]),
    (&["stop sign"], Amount::One, &["stop sign"]),
    (&["parking meter"], Amount::One, &["parking meter"]),
    (&["bench"], Amount::One, &["bench", "park bench"]),
    (&["bird"], Amount::One, &["bird", "pigeon", "duck", "seagull", "gull", "goose", "parrot", "swan"]),
    (&["bird"], Amount::Some(3), &["geese"]),
    (&["cat"], Amount::One, &["cat", "kitten", "kitty"]),
    (
        &["dog"],
        Amount::One,
        &["dog", "puppy", "pup", "greyhound", "terrier", "retriever", "poodle", "collie"],
    ),
    (&["horse"], Amount::One, &["horse", "pony", "bronco", "foal"]),
    (&["sheep"], Amount::Some(2), &["sheep"]),
    (&["sheep"], Amount::One, &["lamb"]),
    (&["cow"], Amount::One, &["cow", "bull", "calf", "ox"]),
    (&["cow"], Amount::Some(3), &["cattle", "calves"]),
    (&["elephant"], Amount::One, &["elephant"]),
    (&["bear"], Amount::One, &["bear", "polar bear"]),
    (&["zebra"], Amount::One, &["zebra"]),
    (&["giraffe"], Amount::One, &["giraffe"]),
    (&["backpack"], Amount::One, &["backpack", "rucksack", "knapsack"]),
    (&["umbrella"], Amount::One, &["umbrella", "parasol"]),
    (&["handbag"], Amount::One, &["handbag", "purse", "bag"]),
    (&["tie"], Amount::One, &["tie", "necktie"]),
    (&["suitcase"], Amount::One, &["suitcase", "luggage"]),
    (&["frisbee"], Amount::One, &["frisbee"]),
    (&["skis"], Amount::Exactly(1), &["skis"]),
    (&["snowboard"], Amount::One, &["snowboard"]),
    (&["sports ball"], Amount::One, &["ball", "tennis ball", "soccer ball", "basketball ball", "beach ball"]),
    (&["kite"], Amount::One, &["kite"]),
    (&["baseball bat"], Amount::One, &["bat", "baseball bat"]),
    (&["baseball glove"], Amount::One, &["baseball glove", "baseball mitt", "catchers mitt"]),
    (&["skateboard"], Amount::One, &["skateboard"]),
    (&["surfboard"], Amount::One, &["surfboard", "surf board"]),
    (&["tennis racket"], Amount::One, &["racket", "racquet", "tennis racket", "tennis racquet"]),
    (&["bottle"], Amount::One, &["bottle", "wine bottle", "beer bottle"]),
    (&["wine glass"], Amount::One, &["wine glass", "wineglass"]),
    (&["cup"], Amount::One, &["cup", "mug"]),
    (&["fork"], Amount::One, &["fork"]),
    (&["knife"], Amount::One, &["knife"]),
    (&["knife"], Amount::Some(2), &["knives"]),
    (&["spoon"], Amount::One, &["spoon"]),
    (&["bowl"], Amount::One, &["bowl"]),
    (&["banana"], Amount::One, &["banana"]),
    (&["apple"], Amount::One, &["apple"]),
    (&["sandwich"], Amount::One, &["sandwich", "burger", "hamburger"]),
    (&["orange"], Amount::Some(3), &["oranges"]),
    (&["broccoli"], Amount::One, &["broccoli"]),
    (&["carrot"], Amount::One, &["carrot"]),
    (&["hot dog"], Amount::One, &["hot dog", "hotdog"]),
    (&["pizza"], Amount::One, &["pizza"]),
    (&["donut"], Amount::One, &["donut", "doughnut"]),
    (&["cake"], Amount::One, &["cake", "cupcake", "birthday cake"]),
    (&["chair"], Amount::One, &["chair", "armchair", "stool", "lawn chair"]),
    (&["couch"], Amount::One, &["couch", "sofa", "loveseat"]),
    (&["potted plant"], Amount::One, &["plant", "potted plant", "houseplant"]),
    (&["bed"], Amount::One, &["bed"]),
    (&["dining table"], Amount::One, &["table", "dining table", "picnic table", "dinner table"]),
    (&["toilet"], Amount::One, &["toilet", "urinal"]),
    (&["tv"], Amount::One, &["tv", "television", "monitor"]),
    (&["laptop"], Amount::One, &["laptop", "computer", "laptop computer"]),
    (&["mouse"], Amount::One, &["computer mouse"]),
    (&["remote"], Amount::One, &["remote", "remote control", "controller", "wii remote", "wii controller"]),
    (&["keyboard"], Amount::One, &["keyboard", "computer keyboard"]),
    (&["cell phone"], Amount::One, &["cellphone", "phone", "cell phone", "mobile phone", "smartphone"]),
    (&["microwave"], Amount::One, &["microwave", "microwave oven"]),
    (&["oven"], Amount::One, &["oven", "stove"]),
    (&["toaster"], Amount::One, &["toaster"]),
    (&["sink"], Amount::One, &["sink"]),
    (&["refrigerator"], Amount::One, &["refrigerator", "fridge", "freezer"]),
    (&["book"], Amount::One, &["book", "textbook"]),
    (&["clock"], Amount::One, &["clock"]),
    (&["vase"], Amount::One, &["vase"]),
    (&["scissors"], Amount::Exactly(1), &["scissors"]),
    (&["teddy bear"], Amount::One, &["teddy bear", "stuffed bear", "stuffed animal"]),
    (&["hair drier"], Amount::One, &["hair drier", "hair dryer", "blow dryer"]),
    (&["toothbrush"], Amount::One, &["toothbrush"]),
];

#[rustfmt::skip]
const PEOPLE: &[&str] = &[
    "person", "man", "woman", "boy", "girl", "child", "kid", "guy", "lady", "gentleman", "baby", "toddler",
    "infant", "male", "female", "adult", "teenager", "individual", "someone", "mother", "father", "mom", "dad",
    "son", "daughter", "friend", "bride", "groom", "player", "worker", "officer", "policeman", "policewoman",
    "cowboy", "performer", "musician", "singer", "dancer", "guitarist", "drummer", "artist", "vendor", "chef",
    "driver", "rider", "pedestrian", "runner", "jogger", "swimmer", "hiker", "climber", "skater", "soldier",
    "firefighter", "fireman", "student", "teacher", "referee", "catcher", "batter", "pitcher", "umpire", "goalie",
    "athlete", "gymnast", "clown", "photographer", "customer", "passenger", "racer", "fisherman", "businessman",
    "businesswoman", "cheerleader", "wrestler", "boxer", "golfer", "tourist", "shopper", "brunette", "blond",
    "blonde", "teen", "youth",
];

/// Words that say how many of the next noun there are. Those of [`MEASURES`] do so only before "of".
pub const NUMBERS: &[(&str, usize)] = &[
    ("a", 1),
    ("an", 1),
    ("one", 1),
    ("another", 1),
    ("two", 2),
    ("both", 2),
    ("couple", 2),
    ("pair", 2),
    ("three", 3),
    ("some", 3),
    ("few", 3),
    ("various", 3),
    ("multiple", 3),
    ("group", 4),
    ("team", 4),
    ("herd", 4),
    ("bunch", 4),
    ("row", 4),
    ("several", 4),
    ("four", 4),
    ("many", 5),
    ("flock", 5),
    ("lots", 5),
    ("five", 5),
    ("six", 6),
    ("seven", 6),
    ("eight", 6),
    ("dozen", 6),
    ("numerous", 6),
    ("crowd", 6),
];

/// Nouns that count others: "a group of men" has four men and no group beside them.
pub const MEASURES: &[&str] =
    &["couple", "pair", "group", "team", "herd", "bunch", "row", "flock", "lots", "crowd", "family"];

/// After one of these a noun only says of what kind they are: a train station shows no train for sure.
#[rustfmt::skip]
pub const HEADS: &[&str] = &[
    "station", "track", "tracks", "stop", "race", "racing", "races", "show", "house", "food", "dock", "shop", "store",
    "park", "lot", "field", "court", "game", "match", "costume", "helmet", "toy", "statue", "slope", "lift", "trail",
    "path", "lane", "ramp", "rack", "rink", "terminal", "print", "stand", "hood", "window", "windows",
];

/// Between a number and its noun none of these stands.
pub const BOUNDARIES: &[&str] =
    &[",", ".", "and", "or", "with", "in", "on", "at", "by", "to", "from", "near", "while", "is", "are"];

/// Words of a scene, and the classes that show that a photo is of such a scene. The first one that fits counts.
pub const SCENES: &[(&[&str], &[&str])] = &[
    (&["kitchen", "stove", "oven", "cooking"], &["oven", "refrigerator", "microwave", "toaster"]),
    (&["bathroom", "restroom", "bathtub", "shower"], &["toilet", "toothbrush", "hair drier"]),
    (&["bedroom", "bed", "pillow", "blanket"], &["bed"]),
    (&["office", "desk", "classroom", "laboratory"], &["laptop", "keyboard", "mouse"]),
    (&["restaurant", "cafe", "dinner", "plate", "meal", "dining"], &["dining table", "fork", "knife"]),
    (&["living", "couch", "sofa", "room", "indoors", "apartment"], &["couch", "tv", "remote"]),
    (&["snow", "snowy", "ski", "skiing", "snowboarding", "slope"], &["skis", "snowboard"]),
    (&["surf", "surfing", "wave", "ocean", "sea", "beach", "shore", "sand", "sandy"], &["surfboard"]),
    (&["lake", "river", "water", "pond", "harbor", "dock", "pier", "boat"], &["boat"]),
    (&["tennis"], &["tennis racket"]),
    (&["baseball", "softball"], &["baseball bat", "baseball glove"]),
    (&["railroad", "railway", "tracks", "platform", "subway"], &["train"]),
    (&["airport", "runway", "airfield"], &["airplane"]),
    (&["skateboarding", "ramp", "halfpipe"], &["skateboard"]),
    (
        &["street", "road", "sidewalk", "city", "traffic", "crosswalk", "intersection", "parking", "urban"],
        &["traffic light", "stop sign", "parking meter", "fire hydrant", "bus", "truck"],
    ),
    (
        &["grass", "grassy", "field", "pasture", "meadow", "lawn", "farm", "grazing", "park", "yard", "hill"],
        &["sheep", "cow", "horse", "frisbee"],
    ),
    (&["forest", "woods", "wooded", "tree", "zoo", "savanna"], &["bear", "giraffe", "zebra", "elephant"]),
    (&["sky", "flying"], &["kite", "airplane"]),
];
