use super::*;

#[test]
fn every_preset_is_a_possible_recipe() {
    for preset in Preset::value_variants() {
        Recipe::of(*preset).check().unwrap();
    }
}

#[test]
fn capdec_and_maccap_with_one_region_share_their_bridge() {
    let one = Switches { regions: Some(1), ..Switches::default() }.recipe(Preset::Maccap);
    let capdec = Recipe::of(Preset::Capdec);
    let bridge = |recipe: &Recipe| {
        (recipe.source, recipe.centre, recipe.noise_cosine, recipe.n_regions, recipe.memory)
    };
    assert_eq!(bridge(&one), bridge(&capdec));
}

#[test]
fn a_switch_beats_its_preset() {
    let given = Switches { noise_cosine: vec![0.9], tags: Some(true), ..Switches::default() };
    let recipe = given.recipe(Preset::Capdec);
    assert_eq!(recipe, Recipe { noise_cosine: [0.9; 2], tags: true, ..Recipe::of(Preset::Capdec) });
}

#[test]
fn impossible_combinations_are_named() {
    let with = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe::of(Preset::Capdec);
        change(&mut recipe);
        recipe.check().unwrap_err()
    };
    assert!(with(|r| r.noise_cosine = [0.0; 2]).contains("--noise-cosine"));
    assert!(with(|r| r.n_regions = 3).contains("--regions 3"));
    assert!(with(|r| r.pseudo = Pseudo::Moments).contains("--pseudo"));
}
