//! Libraries for an engine on another host: read where the kernel compiled them, sent by the
//! control channel, which is heard while a task waits for them.

use super::event::{Channel, Effect, Now, Number, Outgoing, raw};
use super::state::State;
use crate::compile::is_library_name;
use prust::EngineId;
use serde_json::json;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An engine asks again every few seconds; a large library may be on its way for longer, and is not
/// sent twice within this.
const ON_ITS_WAY_FOR: Duration = Duration::from_secs(30);

/// When which engine was sent which library.
#[derive(Debug, Default)]
pub(super) struct Brought(HashMap<(Arc<str>, String), Duration>);

impl State {
    /// An engine on another host waits for libraries; its host keeps them.
    pub(super) fn bring(
        &mut self,
        engine: EngineId,
        mut names: Vec<String>,
        folder: PathBuf,
        now: Now,
    ) {
        let Some(to) = self.engines.get(&engine).map(|engine| engine.uuid.clone()) else { return };
        let Brought(sent) = &mut self.brought;
        sent.retain(|_, at| now.at < *at + ON_ITS_WAY_FOR);
        names.retain(|name| match sent.entry((to.clone(), name.clone())) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(now.at);
                true
            }
        });
        if !names.is_empty() {
            let number = self.next_number();
            self.effects.push(Effect::Bring { to, number, names, folder });
        }
    }
}

/// `library_request`: the files that are here, one buffer each, and the names of the others, which
/// are the system's.
pub(super) fn request(folder: &Path, to: Arc<str>, number: Number, asked: Vec<String>) -> Outgoing {
    let (mut names, mut buffers, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for name in asked {
        // Nobody is sent any other file of this host.
        let bytes = is_library_name(&name).then(|| std::fs::read(folder.join(&name)));
        match bytes {
            Some(Ok(bytes)) => {
                names.push(name);
                buffers.push(bytes);
            }
            Some(Err(_)) | None => absent.push(name),
        }
    }
    tracing::debug!(%to, ?names, ?absent, "libraries for another host");
    let content = json!({"names": names, "absent": absent});
    Outgoing {
        channel: Channel::Control,
        to: Some(to),
        number,
        msg_type: "library_request".into(),
        metadata: raw(&json!({})),
        content: raw(&content),
        buffers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn only_libraries_of_cells_are_sent() {
        let scratch = crate::process::Scratch::new().expect("there is room");
        let folder = scratch.path().join("lib");
        std::fs::create_dir(&folder).expect("there is room");
        std::fs::write(folder.join("libleaf_1.so"), b"library").expect("there is room");
        std::fs::write(scratch.path().join("libsecret.so"), b"secret").expect("there is room");
        std::fs::write(folder.join("leaf_1.json"), b"record").expect("there is room");
        let asked =
            ["libleaf_1.so", "../libsecret.so", "leaf_1.json", "libc.so.6", "libleaf_/../x.so"];
        let sent = request(&folder, "e".into(), 7, asked.map(str::to_owned).into());
        let content: Value = serde_json::from_str(sent.content.get()).expect("it is JSON");
        assert_eq!(content["names"], json!(["libleaf_1.so"]));
        assert_eq!(content["absent"], json!(asked[1..]));
        assert_eq!((sent.channel, sent.buffers), (Channel::Control, vec![b"library".to_vec()]));
    }
}
