//! Where on this host the library of a task is. That of a client on the same host, or one with the
//! same files, is where the client says. Another host has it in its store if anybody here has ever
//! used it: its name is a hash of what it was made from. What is not there either the client is
//! asked for, on iopub, until it comes. The queue waits for it: what follows may need what this
//! task leaves behind. Part of [`Engine`].
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::event::{Effect, Fault, Now};
use super::request::Route;
use super::state::Engine;
use super::work::{Running, Stage};
use crate::compile::Found;
use crate::wire::Message;
use crate::worker::Call;

/// What is published may be lost while sockets connect: the client is asked again.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(2);
/// A client that has sent nothing for so long has ended, or is none of ours.
pub(super) const ASK_MAX: Duration = Duration::from_secs(120);
/// Places remembered; then they are looked for anew.
const KNOWN_MAX: usize = 10_000;

/// What is to be run as soon as its library is here.
#[derive(Debug)]
pub(super) enum Launch {
    Run { library: PathBuf, entry: String },
    Call(Call),
}

#[derive(Debug, Default)]
pub(super) struct Libraries {
    /// Where a library is here, by where the client has it.
    known: HashMap<PathBuf, PathBuf>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    run: u64,
    launch: Launch,
    /// What the client has said that it does not have: the system's libraries.
    absent: HashSet<String>,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    names: Vec<String>,
    again_at: Instant,
    until: Instant,
}

/// `library_request`: files, one buffer each, and names of those that the client does not have.
#[derive(Deserialize)]
struct Brought {
    names: Vec<String>,
    #[serde(default)]
    absent: Vec<String>,
}

impl Launch {
    fn library(&mut self) -> &mut PathBuf {
        match self {
            Self::Run { library, .. } | Self::Call(Call { library, .. }) => library,
        }
    }

    fn effect(self, run: u64) -> Effect {
        match self {
            Self::Run { library, entry } => Effect::Run { run, library, entry },
            Self::Call(call) => Effect::Call { run, call },
        }
    }
}

impl Libraries {
    /// Where a library is here, if that is known.
    pub(super) fn place(&self, library: &Path) -> Option<&PathBuf> {
        self.known.get(library)
    }

    fn asked(&self) -> Option<&Asked> {
        self.waiting.as_ref()?.asked.as_ref()
    }
}

impl Engine {
    /// Starts the running work, which waits if its library is still to be found.
    pub(super) fn launch(&mut self, mut launch: Launch) {
        let Some(running) = &mut self.running else { return };
        let library = launch.library();
        if let Some(place) = self.libraries.place(library) {
            place.clone_into(library);
            running.stage = Stage::Working;
            return self.effects.push(launch.effect(running.run));
        }
        running.stage = Stage::Finding;
        let (run, library) = (running.run, library.clone());
        self.libraries.waiting = Some(Waiting { run, launch, absent: HashSet::new(), asked: None });
        self.effects.push(Effect::Find { run, library, absent: HashSet::new() });
    }

    /// A library was looked for.
    pub(super) fn found(&mut self, run: u64, found: Result<Found, Fault>, now: Now) {
        let is_meant = |running: &Running| running.run == run && running.stage == Stage::Finding;
        let waiting = self.libraries.waiting.take_if(|waiting| waiting.run == run);
        let Some(mut waiting) = waiting.filter(|_| self.running.as_ref().is_some_and(is_meant))
        else {
            return;
        };
        match found {
            Ok(Found::Here(place)) => {
                if self.libraries.known.len() >= KNOWN_MAX {
                    self.libraries.known.clear();
                }
                self.libraries.known.insert(waiting.launch.library().clone(), place);
                self.launch(waiting.launch);
                self.send_ahead();
            }
            Ok(Found::Lacks(names)) => {
                let until = now.instant + ASK_MAX;
                waiting.asked = Some(Asked { names, again_at: now.instant, until });
                self.libraries.waiting = Some(waiting);
                self.ask_for_libraries(now);
            }
            Err(fault) => self.cannot_launch(&fault, now),
        }
    }

    /// A client brings libraries.
    pub(super) fn brought(&mut self, route: Route, message: Message, now: Now) {
        let Brought { names, absent } = match message.content::<Brought>() {
            Ok(content) if content.names.len() == message.buffers.len() => content,
            _ => {
                let text = "a library_request has names, and a buffer for each";
                return self.reply_fault(route, &Fault::new("BadRequest", text));
            }
        };
        self.reply_plain(route, json!({"status": "ok"}));
        let Some(waiting) = &mut self.libraries.waiting else { return };
        waiting.absent.extend(absent);
        if let Some(asked) = &mut waiting.asked {
            asked.again_at = now.instant + ASK_EVERY;
        }
        let run = waiting.run;
        let (library, absent) = (waiting.launch.library().clone(), waiting.absent.clone());
        let files = names.into_iter().zip(message.buffers).collect();
        self.effects.push(Effect::Keep { run, files });
        self.effects.push(Effect::Find { run, library, absent });
    }

    /// When [`Engine::ask_for_libraries`] is due.
    pub(super) fn libraries_due(&self) -> Option<Instant> {
        self.libraries.asked().map(|asked| asked.again_at.min(asked.until))
    }

    /// Asks for what is missing, if it is time to, and gives up in the end.
    pub(super) fn ask_for_libraries(&mut self, now: Now) {
        if self.libraries_due().is_none_or(|at| now.instant < at) {
            return;
        }
        let is_finding = |running: &Running| running.stage == Stage::Finding;
        if !self.running.as_ref().is_some_and(is_finding) {
            self.libraries.waiting = None;
            return;
        }
        let asked = self.libraries.waiting.as_mut().and_then(|waiting| waiting.asked.as_mut());
        let Some(asked) = asked else { return };
        if asked.until <= now.instant {
            let text = format!(
                "this host has no {}, and the client that compiled it has not sent it for {} s",
                asked.names.join(", "),
                ASK_MAX.as_secs()
            );
            return self.cannot_launch(&Fault::new("LibraryMissing", text), now);
        }
        asked.again_at = now.instant + ASK_EVERY;
        let content = json!({ "names": asked.names });
        let parent = Arc::clone(&self.parent);
        self.publish_for(parent, "status", "prust_library_missing", content, Vec::new());
    }

    fn cannot_launch(&mut self, fault: &Fault, now: Now) {
        self.libraries.waiting = None;
        if let Some(mut running) = self.running.take() {
            running.delta = None;
            self.finish_fault(running, fault, now);
        }
        self.start_next(now);
    }
}
