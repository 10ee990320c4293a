//! Hands work to the inference thread: the newest frame of each camera, questions, and jobs.
//!
//! Memory is bounded by the number of cameras: one frame waits or is remembered per camera, and a
//! fixed number of questions and of jobs. A full slot is overwritten; a full queue refuses.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::frame::Frame;
use crate::job::{JOBS_MAX, Job};
use crate::message::{Ask, Changes, Watch};

/// Questions that may wait.
pub const QUESTIONS_MAX: usize = 8;
/// Questions in a row before a waiting frame or job is served: a flood must not silence the captions.
const QUESTIONS_IN_A_ROW: u32 = 4;

/// The next thing to do for the inference thread.
#[derive(Debug)]
pub enum Work {
    /// The newest frame of a camera, and whether somebody asked for its caption.
    Frame(Arc<Frame>, bool),
    /// A question and the newest frame of its camera, if there is any.
    Question(Ask, Option<Arc<Frame>>),
    /// A picture that came over MQTT with what is to be said about it.
    Job(Job),
    /// Wishes for other settings of a camera; without any, to say what they are.
    Change(usize, Changes),
    /// Another camera has this place.
    Watch(usize, Box<Watch>),
    /// Nothing came in time.
    Idle,
    /// Closed, and every question and job is served.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    /// Cameras with a waiting frame, in the order in which they became waiting, so that a fast
    /// camera cannot starve a slow one.
    order: VecDeque<usize>,
    questions: VecDeque<Ask>,
    in_a_row: u32,
    /// Whether a slot may hold changes or another camera: most have none, and there are many.
    may_have_changes: bool,
    jobs: VecDeque<Job>,
    /// Frames and jobs take turns where both wait.
    is_jobs_turn: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    newest: Option<Arc<Frame>>,
    waiting: bool,
    /// A caption of the newest frame, or of the next if there is none, was asked for.
    wanted: bool,
    /// Several wishes that nobody has looked at are one: the newest of each kind.
    changes: Option<Changes>,
    /// How another camera at this place is looked at.
    watch: Option<Box<Watch>>,
}

impl Inbox {
    pub fn new(n_cameras: usize) -> Inbox {
        Inbox {
            state: Mutex::new(State {
                slots: (0..n_cameras).map(|_| Slot::default()).collect(),
                order: VecDeque::with_capacity(n_cameras),
                questions: VecDeque::with_capacity(QUESTIONS_MAX),
                in_a_row: 0,
                may_have_changes: false,
                jobs: VecDeque::new(),
                is_jobs_turn: false,
                closed: false,
            }),
            wake: Condvar::new(),
        }
    }

    /// Keeps `frame` as the newest of its camera. True when it displaced one that nobody looked at.
    pub fn put_frame(&self, frame: Frame) -> bool {
        let camera = frame.id.camera;
        let mut state = self.lock();
        let slot = &mut state.slots[camera];
        slot.newest = Some(Arc::new(frame));
        let overwritten = std::mem::replace(&mut slot.waiting, true);
        if !overwritten {
            state.order.push_back(camera);
        }
        drop(state);
        self.wake.notify_one();
        overwritten
    }

    /// Asks for a caption of what the camera shows now: of its newest frame, or of its first. Asked for twice before it
    /// is made, it is made once.
    pub fn want_caption(&self, camera: usize) {
        let mut state = self.lock();
        let slot = &mut state.slots[camera];
        slot.wanted = true;
        if slot.newest.is_some() && !std::mem::replace(&mut slot.waiting, true) {
            state.order.push_back(camera);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Asks for other settings of a camera.
    pub fn change(&self, camera: usize, changes: Changes) {
        let mut state = self.lock();
        state.slots[camera].changes.get_or_insert_default().update(changes);
        state.may_have_changes = true;
        drop(state);
        self.wake.notify_one();
    }

    /// Gives the place to another camera: what waits of the former is forgotten.
    pub fn watch(&self, camera: usize, watch: Watch) {
        let mut state = self.lock();
        state.slots[camera] = Slot { watch: Some(Box::new(watch)), ..Slot::default() };
        state.order.retain(|waiting| *waiting != camera);
        state.may_have_changes = true;
        drop(state);
        self.wake.notify_one();
    }

    /// Queues a question.
    ///
    /// # Errors
    /// Gives the question back when [`QUESTIONS_MAX`] wait already, or after [`Inbox::close`].
    #[expect(
        clippy::result_large_err,
        reason = "the question goes back whole to the one that answers `busy`"
    )]
    pub fn put_question(&self, ask: Ask) -> Result<(), Ask> {
        let mut state = self.lock();
        if state.closed || state.questions.len() >= QUESTIONS_MAX {
            return Err(ask);
        }
        state.questions.push_back(ask);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a job.
    ///
    /// # Errors
    /// Gives the job back when [`JOBS_MAX`] wait already, or after [`Inbox::close`].
    #[expect(clippy::result_large_err, reason = "as of a question")]
    pub fn put_job(&self, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        if state.closed || state.jobs.len() >= JOBS_MAX {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Forgets every job that waits, and says which: the broker will hand them over again.
    pub fn forget_jobs(&self) -> Vec<u64> {
        self.lock().jobs.drain(..).map(|job| job.ticket).collect()
    }

    /// No more work comes: questions and jobs that wait are still served, frames are not.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Blocks up to `timeout` for the next piece of work, questions first.
    pub fn next(&self, timeout: Duration) -> Work {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(work) = state.take() {
                return work;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return Work::Idle;
            };
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Every critical section leaves the state consistent, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Another camera first: changes that come after it are about that one.
    fn take_change(&mut self) -> Option<Work> {
        if !self.may_have_changes {
            return None;
        }
        let watched = self.slots.iter_mut().enumerate().find_map(|(i, slot)| Some((i, slot.watch.take()?)));
        if let Some((camera, watch)) = watched {
            return Some(Work::Watch(camera, watch));
        }
        let changed = self.slots.iter_mut().enumerate().find_map(|(i, slot)| Some((i, slot.changes.take()?)));
        self.may_have_changes = changed.is_some();
        changed.map(|(camera, changes)| Work::Change(camera, changes))
    }

    fn take(&mut self) -> Option<Work> {
        if let Some(change) = self.take_change() {
            return Some(change);
        }
        let others_wait = !self.order.is_empty() || !self.jobs.is_empty();
        let is_others_turn = self.in_a_row >= QUESTIONS_IN_A_ROW && others_wait && !self.closed;
        if !is_others_turn && let Some(ask) = self.questions.pop_front() {
            self.in_a_row += 1;
            let newest = self.slots[ask.camera].newest.clone();
            return Some(Work::Question(ask, newest));
        }
        self.in_a_row = 0;
        if (self.is_jobs_turn || self.closed || self.order.is_empty())
            && let Some(job) = self.jobs.pop_front()
        {
            self.is_jobs_turn = false;
            return Some(Work::Job(job));
        }
        if self.closed {
            return Some(Work::Closed);
        }
        self.is_jobs_turn = true;
        let slot = &mut self.slots[self.order.pop_front()?];
        slot.waiting = false;
        let wanted = std::mem::take(&mut slot.wanted);
        slot.newest.clone().map(|frame| Work::Frame(frame, wanted))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use caption::Question;

    use super::*;
    use crate::frame::FrameId;
    use crate::message::Reply;

    const NOW: Duration = Duration::ZERO;

    fn frame(camera: usize, seq: u64) -> Frame {
        Frame {
            id: FrameId { camera, seq, captured_at: SystemTime::now(), file: None },
            taken: Instant::now(),
            decode: Duration::ZERO,
            image: image::RgbImage::new(1, 1),
        }
    }

    fn ask(text: &str) -> Ask {
        Ask {
            camera: 0,
            question: Question { text: text.to_owned(), ..Question::default() },
            reply: Reply::default(),
            asked_at: Instant::now(),
            deadline: None,
        }
    }

    fn describe(work: Work) -> String {
        match work {
            Work::Frame(frame, wanted) => {
                let wanted = if wanted { "wanted " } else { "" };
                format!("{wanted}frame {}/{}", frame.id.camera, frame.id.seq)
            }
            Work::Question(ask, newest) => {
                format!("{} on {:?}", ask.question.text, newest.map(|frame| frame.id.seq))
            }
            Work::Job(job) => format!("job {}", job.ticket),
            Work::Change(camera, changes) => format!("{camera}: {changes:?}"),
            Work::Watch(camera, _) => format!("another {camera}"),
            Work::Idle => "idle".to_owned(),
            Work::Closed => "closed".to_owned(),
        }
    }

    #[test]
    fn overwrites_the_older_frame_of_the_same_camera() {
        let inbox = Inbox::new(1);
        assert!(!inbox.put_frame(frame(0, 1)));
        assert!(inbox.put_frame(frame(0, 2)));
        assert_eq!(describe(inbox.next(NOW)), "frame 0/2");
        assert_eq!(describe(inbox.next(NOW)), "idle");
        assert!(!inbox.put_frame(frame(0, 3)), "the frame before was looked at");
    }

    #[test]
    fn a_fast_camera_does_not_starve_a_slow_one() {
        let inbox = Inbox::new(2);
        inbox.put_frame(frame(0, 1));
        inbox.put_frame(frame(1, 1));
        inbox.put_frame(frame(0, 2));
        assert_eq!(describe(inbox.next(NOW)), "frame 0/2");
        inbox.put_frame(frame(0, 3));
        assert_eq!(describe(inbox.next(NOW)), "frame 1/1");
        assert_eq!(describe(inbox.next(NOW)), "frame 0/3");
    }

    #[test]
    fn a_caption_that_is_asked_for_is_of_the_newest_frame_or_the_first() {
        let inbox = Inbox::new(2);
        inbox.want_caption(0);
        assert_eq!(describe(inbox.next(NOW)), "idle");
        inbox.put_frame(frame(0, 1));
        assert_eq!(describe(inbox.next(NOW)), "wanted frame 0/1");
        inbox.want_caption(0);
        inbox.want_caption(0);
        assert_eq!(describe(inbox.next(NOW)), "wanted frame 0/1", "asked for again, of the same frame");
        assert_eq!(describe(inbox.next(NOW)), "idle");
    }

    #[test]
    fn wishes_for_other_settings_are_gathered_and_go_first() {
        let inbox = Inbox::new(2);
        inbox.put_question(ask("q")).unwrap();
        inbox.change(1, Changes { enabled: Some(false), prompt: Some("a".to_owned()), ..Changes::default() });
        inbox.change(1, Changes { enabled: Some(true), ..Changes::default() });
        let Work::Change(1, changes) = inbox.next(NOW) else { panic!("no change") };
        assert_eq!((changes.enabled, changes.prompt.as_deref()), (Some(true), Some("a")));
        assert_eq!(describe(inbox.next(NOW)), "q on None");
        assert_eq!(describe(inbox.next(NOW)), "idle");
    }

    #[test]
    fn another_camera_at_a_place_goes_first_and_finds_nothing_of_the_former() {
        let inbox = Inbox::new(2);
        inbox.put_frame(frame(0, 1));
        inbox.put_frame(frame(1, 1));
        inbox.change(0, Changes { enabled: Some(false), ..Changes::default() });
        let watch = Watch {
            gate: crate::config::GATE,
            vision: 0,
            prompt: String::new(),
            standing: crate::standing::StandingConfig::default(),
            image: false,
        };
        inbox.watch(0, watch);
        assert_eq!(describe(inbox.next(NOW)), "another 0");
        assert_eq!(describe(inbox.next(NOW)), "frame 1/1");
        assert_eq!(describe(inbox.next(NOW)), "idle");
        inbox.put_frame(frame(0, 2));
        assert_eq!(describe(inbox.next(NOW)), "frame 0/2");
    }

    #[test]
    fn questions_go_first_but_a_flood_lets_a_frame_through() {
        let inbox = Inbox::new(1);
        assert_eq!(describe(inbox.next(NOW)), "idle");
        inbox.put_frame(frame(0, 7));
        for n in 0..6 {
            inbox.put_question(ask(&format!("q{n}"))).unwrap();
        }
        let order: Vec<_> = (0..7).map(|_| describe(inbox.next(NOW))).collect();
        assert_eq!(
            order,
            [
                "q0 on Some(7)",
                "q1 on Some(7)",
                "q2 on Some(7)",
                "q3 on Some(7)",
                "frame 0/7",
                "q4 on Some(7)",
                "q5 on Some(7)"
            ]
        );
    }

    fn job(ticket: u64) -> Job {
        Job {
            ticket,
            picture: bytes::Bytes::new(),
            question: None,
            expires: None,
            came: Instant::now(),
            vision: 0,
            done: tokio::sync::mpsc::channel(1).0,
        }
    }

    #[test]
    fn frames_and_jobs_take_turns_and_questions_go_before_both() {
        let inbox = Inbox::new(3);
        (1..=3).for_each(|ticket| inbox.put_job(job(ticket)).unwrap());
        for camera in 0..3 {
            assert!(!inbox.put_frame(frame(camera, 1)));
        }
        inbox.put_question(ask("q")).unwrap();
        let order: Vec<_> = (0..7).map(|_| describe(inbox.next(NOW))).collect();
        let expected = ["q on Some(1)", "frame 0/1", "job 1", "frame 1/1", "job 2", "frame 2/1", "job 3"];
        assert_eq!(order, expected);
    }

    #[test]
    fn a_flood_of_questions_lets_a_job_through() {
        let inbox = Inbox::new(1);
        inbox.put_job(job(1)).unwrap();
        (0..6).for_each(|n| inbox.put_question(ask(&format!("q{n}"))).unwrap());
        let order: Vec<_> = (0..6).map(|_| describe(inbox.next(NOW))).collect();
        assert_eq!(order[4], "job 1", "{order:?}");
    }

    #[test]
    fn jobs_are_bounded_served_before_the_end_and_forgotten_when_told() {
        let inbox = Inbox::new(0);
        (0..JOBS_MAX as u64).for_each(|ticket| inbox.put_job(job(ticket)).unwrap());
        assert_eq!(inbox.put_job(job(99)).unwrap_err().ticket, 99);
        assert_eq!(inbox.forget_jobs().len(), JOBS_MAX);
        assert_eq!(describe(inbox.next(NOW)), "idle");
        inbox.put_job(job(7)).unwrap();
        inbox.close();
        assert!(inbox.put_job(job(8)).is_err());
        assert_eq!(describe(inbox.next(NOW)), "job 7");
        assert_eq!(describe(inbox.next(NOW)), "closed");
    }

    #[test]
    fn a_full_queue_gives_the_question_back() {
        let inbox = Inbox::new(1);
        for n in 0..QUESTIONS_MAX {
            inbox.put_question(ask(&format!("q{n}"))).unwrap();
        }
        assert_eq!(inbox.put_question(ask("one more")).unwrap_err().question.text, "one more");
        assert_eq!(describe(inbox.next(NOW)), "q0 on None");
        assert!(inbox.put_question(ask("now")).is_ok());
    }

    #[test]
    fn serves_waiting_questions_before_it_says_closed() {
        let inbox = Inbox::new(1);
        inbox.put_frame(frame(0, 1));
        inbox.put_question(ask("last")).unwrap();
        inbox.close();
        assert!(inbox.put_question(ask("too late")).is_err());
        assert_eq!(describe(inbox.next(NOW)), "last on Some(1)");
        assert_eq!(describe(inbox.next(NOW)), "closed");
    }

    #[test]
    fn wakes_a_waiting_consumer() {
        let inbox = Arc::new(Inbox::new(1));
        let producer = Arc::clone(&inbox);
        let thread = std::thread::Builder::new().spawn(move || producer.put_frame(frame(0, 9))).unwrap();
        assert_eq!(describe(inbox.next(Duration::from_secs(600))), "frame 0/9");
        assert!(!thread.join().unwrap());
    }
}
