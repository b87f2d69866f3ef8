//! Where clusters are found: IPython's profiles, the files in their security directories, and what
//! a user may call a cluster. Looks at names of files, connects to nothing.
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::connection::{client_file_path, profile_dir};

/// The profiles of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profiles {
    /// `$IPYTHONDIR`, else `~/.ipython`.
    pub ipython_dir: PathBuf,
    /// The directory of the profile that is meant when none is named: `$IPP_PROFILE_DIR`, else the
    /// profile `default`.
    pub usual: PathBuf,
    pub home: PathBuf,
}

/// Why a name leads to no connection file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindError {
    NoFile { path: PathBuf },
    NoCluster { name: String, looked_for: Vec<PathBuf>, known: Vec<String> },
    Ambiguous { name: String, found: Vec<PathBuf> },
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile { path } => {
                write!(f, "there is no connection file {}", path.display())
            }
            Self::NoCluster { name, looked_for, known } => {
                let looked_for = listed(looked_for);
                write!(f, "no cluster or profile is called {name}: there is no {looked_for}")?;
                match known.is_empty() {
                    true => f.write_str("; prust cluster start --detach starts one"),
                    false => write!(f, "; there are the clusters {}", known.join(", ")),
                }
            }
            Self::Ambiguous { name, found } => {
                let found = listed(found);
                write!(f, "{name} is a profile and a cluster: name the file, {found}")
            }
        }
    }
}

impl std::error::Error for FindError {}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

impl Profiles {
    /// Reads the environment; `None` if it names no place at all.
    pub fn read(env: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("HOME");
        let ipython_dir = set("IPYTHONDIR").or_else(|| Some(home.as_ref()?.join(".ipython")))?;
        let usual = set("IPP_PROFILE_DIR").unwrap_or_else(|| profile_dir(&ipython_dir, "default"));
        Some(Self { usual, ipython_dir, home: home.unwrap_or_default() })
    }

    /// The directory of a profile by its name.
    pub fn dir(&self, profile: &str) -> PathBuf {
        profile_dir(&self.ipython_dir, profile)
    }

    /// Finds the clients' connection file of what a user calls a cluster: a path of the file or of
    /// a profile's directory, the name of a profile, the id of a cluster of the usual profile.
    /// Relative paths begin at `cwd`.
    ///
    /// # Errors
    /// There is no such file, or there are two.
    pub fn find(&self, name: &str, cwd: &Path) -> Result<PathBuf, FindError> {
        if name.contains('/') || name.ends_with(".json") || name == "~" {
            return self.find_file(name, cwd);
        }
        let of_profile = client_file_path(&self.dir(name), "");
        let of_cluster = client_file_path(&self.usual, name);
        let looked_for = vec![of_profile, of_cluster];
        let found: Vec<PathBuf> = looked_for.iter().filter(|path| path.exists()).cloned().collect();
        match found.as_slice() {
            [path] => Ok(path.clone()),
            [] => {
                // A profile may have nothing but clusters with ids.
                let dirs = [self.usual.clone(), self.dir(name)];
                let known = dirs.iter().flat_map(|dir| clusters_in(dir)).map(|(id, _)| id);
                let known = known.filter(|id| !id.is_empty()).collect();
                Err(FindError::NoCluster { name: name.to_owned(), looked_for, known })
            }
            _ => Err(FindError::Ambiguous { name: name.to_owned(), found }),
        }
    }

    fn find_file(&self, name: &str, cwd: &Path) -> Result<PathBuf, FindError> {
        let path = match name.strip_prefix('~') {
            Some(rest) => self.home.join(rest.trim_start_matches('/')),
            None => cwd.join(name),
        };
        let inside = [client_file_path(&path, ""), path.join("ipcontroller-client.json")];
        match inside.into_iter().find(|file| file.exists()) {
            Some(file) => Ok(file),
            None if path.is_file() => Ok(path),
            None => Err(FindError::NoFile { path }),
        }
    }
}

/// The clusters that have a clients' connection file in a profile: ids and files, in order.
pub fn clusters_in(profile_dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(profile_dir.join("security"));
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(String, PathBuf)> =
        paths.filter_map(|path| Some((cluster_of(&path)?, path))).collect();
    found.sort();
    found
}

/// The id in the name of a clients' connection file.
pub fn cluster_of(client_file: &Path) -> Option<String> {
    let name = client_file.file_name()?.to_str()?;
    let infix = name.strip_prefix("ipcontroller")?.strip_suffix("-client.json")?;
    Some(infix.strip_prefix('-').unwrap_or(infix).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Home(Profiles);

    impl Home {
        fn new(files: &[&str]) -> Self {
            let home = std::env::temp_dir().join(format!("profiles-{}", uuid::Uuid::new_v4()));
            for file in files {
                let path = home.join(file);
                fs::create_dir_all(path.parent().expect("it is inside")).expect("it is new");
                fs::write(path, "{}").expect("the temporary directory is writable");
            }
            let text = home.clone().into_os_string();
            let profiles = Profiles::read(&|name| (name == "HOME").then(|| text.clone()));
            Self(profiles.expect("HOME is set"))
        }

        fn check(&self, name: &str, expected: &str) {
            let found = match self.0.find(name, &self.0.home) {
                Ok(path) => path.display().to_string(),
                Err(error) => error.to_string(),
            };
            let home = format!("{}/", self.0.home.display());
            assert_eq!(found.replace(&home, "~/"), expected, "{name}");
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            // A leftover in the temporary directory harms nobody.
            let _ = fs::remove_dir_all(&self.0.home);
        }
    }

    #[test]
    fn a_cluster_is_found_by_file_directory_profile_or_id() {
        let usual = ".ipython/profile_default/security";
        let home = Home::new(&[
            &format!("{usual}/ipcontroller-client.json"),
            &format!("{usual}/ipcontroller-big-client.json"),
            ".ipython/profile_mpi/security/ipcontroller-client.json",
            "here/ipcontroller-client.json",
        ]);
        home.check("default", &format!("~/{usual}/ipcontroller-client.json"));
        home.check("big", &format!("~/{usual}/ipcontroller-big-client.json"));
        home.check("mpi", "~/.ipython/profile_mpi/security/ipcontroller-client.json");
        home.check("./here", "~/./here/ipcontroller-client.json");
        home.check(
            "~/.ipython/profile_mpi",
            "~/.ipython/profile_mpi/security/ipcontroller-client.json",
        );
        home.check("here/ipcontroller-client.json", "~/here/ipcontroller-client.json");
        home.check("nowhere/x.json", "there is no connection file ~/nowhere/x.json");
        home.check(
            "other",
            "no cluster or profile is called other: there is no \
             ~/.ipython/profile_other/security/ipcontroller-client.json or \
             ~/.ipython/profile_default/security/ipcontroller-other-client.json; there are the \
             clusters big",
        );
    }

    #[test]
    fn a_name_that_means_two_clusters_is_refused() {
        let home = Home::new(&[
            ".ipython/profile_x/security/ipcontroller-client.json",
            ".ipython/profile_default/security/ipcontroller-x-client.json",
        ]);
        let error = home.0.find("x", &home.0.home).expect_err("it is two");
        assert!(error.to_string().starts_with("x is a profile and a cluster: name the file, "));
        let ids: Vec<String> = clusters_in(&home.0.usual).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["x"]);
    }
}
