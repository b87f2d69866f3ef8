//! The options of `ipcontroller` about its database: in a file, in memory, or none.
use std::path::{Path, PathBuf};

use lexopt::ValueExt;

use super::Settings;
use crate::wire::connection::tasks_file_path;

/// What the command line says of the database.
#[derive(Debug, Default)]
pub(super) struct Database {
    is_file: bool,
    /// The option that wants no file.
    no_file: Option<&'static str>,
    keeps_nothing: bool,
    restore: bool,
    filename: Option<PathBuf>,
    location: Option<PathBuf>,
}

/// Said of a command line that wants to restore what is kept nowhere.
#[derive(Debug)]
pub(super) struct NothingToRestore {
    pub(super) option: &'static str,
}

impl Database {
    pub(super) fn takes(name: &str) -> bool {
        let names =
            ["sqlitedb", "dictdb", "nodb", "restore", "SQLiteDB.filename", "SQLiteDB.location"];
        names.contains(&name)
    }

    pub(super) fn read(
        &mut self,
        name: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<(), lexopt::Error> {
        match name {
            "SQLiteDB.filename" => self.filename = Some(parser.value()?.parse()?),
            "SQLiteDB.location" => self.location = Some(parser.value()?.parse()?),
            "restore" => self.restore = true,
            "nodb" => (self.no_file, self.keeps_nothing) = (Some("--nodb"), true),
            "dictdb" => (self.no_file, self.keeps_nothing) = (Some("--dictdb"), false),
            _ => (self.is_file, self.no_file, self.keeps_nothing) = (true, None, false),
        }
        Ok(())
    }

    /// Puts the choice into the settings. The file stands beside the connection files if nothing
    /// else is said.
    pub(super) fn choose(
        self,
        security_dir: &Path,
        settings: &mut Settings,
    ) -> Result<(), NothingToRestore> {
        settings.keeps_finished = !self.keeps_nothing;
        if let Some(option) = self.no_file {
            return if self.restore { Err(NothingToRestore { option }) } else { Ok(()) };
        }
        if self.is_file || self.restore {
            let usual = tasks_file_path(security_dir, &settings.cluster_id);
            let location = self.location.unwrap_or_else(|| security_dir.to_owned());
            let name = self.filename.or_else(|| usual.file_name().map(PathBuf::from));
            settings.store = Some(location.join(name.unwrap_or_default()));
        }
        settings.restore = self.restore;
        settings.reuse |= self.restore;
        Ok(())
    }
}
