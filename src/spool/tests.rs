use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const LIMITS: Limits = Limits { bytes_max: 1 << 20, age_max: Duration::from_secs(3600) };
const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn open(dir: &Path) -> Spool {
    Spool::open(dir, LIMITS, NOW).unwrap()
}

/// Everything that is not done, as text.
fn texts(spool: &mut Spool) -> Vec<String> {
    let (mut from, mut texts) = (0, Vec::new());
    while let Some((number, bytes)) = spool.read(from).unwrap() {
        texts.push(String::from_utf8(bytes).unwrap());
        from = number + 1;
    }
    texts
}

/// The segment files.
fn segments(dir: &Path) -> Vec<PathBuf> {
    segment_numbers(dir).unwrap().into_iter().map(|first| dir.join(format!("{first:016x}.log"))).collect()
}

#[test]
fn records_come_back_in_order_over_restarts_until_they_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    for text in ["one", "two", "three"] {
        spool.push(text.as_bytes(), NOW).unwrap();
    }
    assert_eq!(texts(&mut spool), ["one", "two", "three"]);
    let (first, _) = spool.read(0).unwrap().unwrap();
    spool.acknowledge(first).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let mut spool = open(dir.path());
    assert_eq!(texts(&mut spool), ["two", "three"]);
    spool.push(b"four", NOW).unwrap();
    assert_eq!((texts(&mut spool).len(), spool.len()), (3, 3));
}

#[test]
fn a_queue_that_is_done_leaves_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push(b"one", NOW).unwrap();
    let (number, _) = spool.read(0).unwrap().unwrap();
    spool.acknowledge(number).unwrap();
    assert!(spool.is_empty() && segments(dir.path()).is_empty());
    spool.push(b"two", NOW).unwrap();
    assert_eq!(texts(&mut spool), ["two"]);
}

#[test]
fn a_torn_end_is_cut_off_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push(b"whole", NOW).unwrap();
    spool.push(b"torn", NOW).unwrap();
    drop(spool);
    let path = segments(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    for cut in 1.."torn".len() + 16 {
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        assert_eq!(texts(&mut open(dir.path())), ["whole"], "{cut} bytes are missing");
    }
    // It can be written to again.
    let mut spool = open(dir.path());
    spool.push(b"next", NOW).unwrap();
    drop(spool);
    assert_eq!(texts(&mut open(dir.path())), ["whole", "next"]);
}

#[test]
fn a_flipped_bit_is_never_taken_for_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push(b"first", NOW).unwrap();
    spool.push(b"second", NOW).unwrap();
    drop(spool);
    let path = segments(dir.path()).remove(0);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = texts(&mut open(dir.path()));
        assert!(
            ["first", "second"].starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>()),
            "{found:?}"
        );
        assert!(found.len() < 2, "byte {at}");
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn damage_while_the_queue_is_open_is_an_error_and_not_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push(b"first", NOW).unwrap();
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(spool.read(0), Err(SpoolError::Damaged(_))));
}

#[test]
fn the_oldest_makes_room_for_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { bytes_max: 64 << 10, ..LIMITS };
    let mut spool = Spool::open(dir.path(), limits, NOW).unwrap();
    let mut n_dropped = 0;
    for n in 0..1000_u32 {
        n_dropped += spool.push(format!("{n:0>200}").as_bytes(), NOW).unwrap();
        let on_disk: u64 = segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(on_disk <= limits.bytes_max, "{on_disk} bytes");
    }
    let left = texts(&mut spool);
    assert_eq!(left.last().unwrap().trim_start_matches('0'), "999");
    assert_eq!(left.len() as u64 + n_dropped, 1000);
    assert!(left.len() > 200, "{} left", left.len());
}

#[test]
fn what_is_too_old_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    spool.push(b"old", NOW).unwrap();
    drop(spool);
    let later = NOW + LIMITS.age_max + Duration::from_secs(1);
    assert!(Spool::open(dir.path(), LIMITS, later).unwrap().is_empty());
}

#[test]
fn two_processes_cannot_share_a_queue() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = open(dir.path());
    let error = Spool::open(dir.path(), LIMITS, NOW).unwrap_err();
    assert!(error.to_string().ends_with("is in use by another process"), "{error}");
}

#[test]
fn a_record_that_is_too_large_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path());
    assert!(spool.push(&vec![0; RECORD_BYTES_MAX + 1], NOW).is_err());
    spool.push(&vec![b'x'; RECORD_BYTES_MAX], NOW).unwrap();
    assert_eq!(texts(&mut spool).len(), 1);
}

/// The numbers that the records hold.
fn numbers(spool: &mut Spool) -> Vec<u64> {
    texts(spool).iter().map(|text| text.trim_start_matches('0').parse().unwrap_or(0)).collect()
}

#[test]
fn nothing_is_lost_and_nothing_is_out_of_order_however_often_the_process_is_killed() {
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let (mut n_pushed, mut n_done) = (0, 0);
        for _ in 0..rng.random_range(1..80) {
            match rng.random_range(0..9) {
                0..4 => {
                    let width = rng.random_range(1..2000);
                    spool.push(format!("{n_pushed:0>width$}").as_bytes(), NOW).unwrap();
                    n_pushed += 1;
                }
                4..7 => {
                    if let Some((number, _)) = spool.read(0).unwrap() {
                        spool.acknowledge(number).unwrap();
                        n_done += 1;
                    }
                }
                7 => spool.sync().unwrap(),
                _ => {
                    drop(spool);
                    spool = open(dir.path());
                    // What was done since the last sync may come again.
                    let oldest = numbers(&mut spool).first().copied().unwrap_or(n_done);
                    assert!(oldest <= n_done, "seed {seed}: {oldest} is the oldest, {n_done} are done");
                    n_done = oldest;
                }
            }
            assert_eq!(numbers(&mut spool), (n_done..n_pushed).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
