//! Where the folders of a control group are.
//!
//! Owns the three layouts: version 2 (one tree), version 1 (a tree per controller, some of them mounted together such
//! as `cpu,cpuacct`) and the hybrid (version 1 with an `unified` tree beside it, which has pressure but no
//! controllers). Called by the sampler and the allowance.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::files::Files;
use super::super::roots::Roots;

/// The mounted trees.
#[derive(Debug, Clone)]
pub(in super::super) struct Hierarchy {
    root: PathBuf,
    version: Version,
}

#[derive(Debug, Clone)]
enum Version {
    One {
        /// Each controller with the folder it is mounted at.
        controllers: Vec<(String, PathBuf)>,
        unified: Option<PathBuf>,
    },
    Two,
}

/// A folder below a mount point; ancestors up to that point have a say in its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    mount: PathBuf,
    pub(super) path: PathBuf,
}

/// The folders of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of these per target"
)]
pub(in super::super) enum Group {
    /// One for each controller that has such a group.
    One {
        cpu: Option<Folder>,
        accounting: Option<Folder>,
        cores: Option<Folder>,
        memory: Option<Folder>,
        storage: Option<Folder>,
        tasks: Option<Folder>,
        /// Has `*.pressure` where the hybrid layout mounts version 2 beside.
        unified: Option<Folder>,
    },
    /// One for everything.
    Two(Folder),
}

impl Folder {
    fn existing(mount: &Path, group: &str) -> Option<Self> {
        let path = mount.join(group.trim_start_matches('/'));
        path.is_dir().then(|| Self {
            mount: mount.to_owned(),
            path,
        })
    }

    /// The folder and those above it, up to and including the mount point.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &Path> {
        let above = self.path.ancestors();
        above.take_while(|path| path.starts_with(&self.mount))
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Group {
    /// The folder whose coming and going is the group's, and which lists its processes.
    pub(super) fn main_folder(&self) -> Option<&Folder> {
        match self {
            Self::Two(folder) => Some(folder),
            Self::One {
                cpu,
                accounting,
                cores,
                memory,
                storage,
                tasks,
                unified,
            } => [accounting, memory, cpu, storage, tasks, cores, unified]
                .into_iter()
                .find_map(Option::as_ref),
        }
    }
}

impl Hierarchy {
    /// Looks at what is mounted below the root.
    pub(in super::super) fn detect(root: &Path) -> Self {
        if root.join("cgroup.controllers").is_file() {
            return Self {
                root: root.to_owned(),
                version: Version::Two,
            };
        }
        let mut controllers = Vec::new();
        let mut folders: Vec<PathBuf> = fs::read_dir(root)
            .map(|listing| listing.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        folders.sort();
        for folder in folders.into_iter().filter(|folder| folder.is_dir()) {
            let name = folder
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            for controller in name.split(',') {
                controllers.push((controller.to_owned(), folder.clone()));
            }
        }
        let unified = root.join("unified");
        Self {
            root: root.to_owned(),
            version: Version::One {
                controllers,
                unified: unified
                    .join("cgroup.controllers")
                    .is_file()
                    .then_some(unified),
            },
        }
    }

    /// The group at a path below the root (`/system.slice/web.service`) or in the file system
    /// (`/sys/fs/cgroup/memory/docker/…`). `None` where no controller has it.
    pub(super) fn group(&self, path: &str) -> Option<Group> {
        let below = Path::new(path)
            .strip_prefix(&self.root)
            .ok()
            .and_then(Path::to_str);
        match &self.version {
            Version::Two => Some(Group::Two(Folder::existing(
                &self.root,
                below.unwrap_or(path),
            )?)),
            Version::One { controllers, .. } => {
                let path = below.map_or(path, |below| {
                    let (mount, rest) = below.split_once('/').unwrap_or((below, ""));
                    let is_mount = mount == "unified"
                        || mount
                            .split(',')
                            .any(|part| controllers.iter().any(|(name, _)| name == part));
                    if is_mount { rest } else { below }
                });
                self.group_one(|_| Some(path.to_owned()))
            }
        }
    }

    /// The group that a process is in.
    pub(super) fn group_of(&self, pid: u32, roots: &Roots, files: &mut Files) -> Option<Group> {
        let text = files.read(&roots.of_process(pid, "cgroup")).ok()?;
        // Lines are `number:controllers:path`; version 2 has number 0 and no controllers.
        let path_of = |controller: &str| {
            text.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (names, path) = (parts.next()?, parts.next()?);
                names
                    .split(',')
                    .any(|name| name == controller)
                    .then(|| path.to_owned())
            })
        };
        match self.version {
            Version::Two => Some(Group::Two(Folder::existing(&self.root, &path_of("")?)?)),
            Version::One { .. } => self.group_one(path_of),
        }
    }

    /// The folders of version 1, given the group's path for each controller (`""` is the unified tree).
    fn group_one(&self, path_of: impl Fn(&str) -> Option<String>) -> Option<Group> {
        let Version::One {
            controllers,
            unified,
        } = &self.version
        else {
            return None;
        };
        let folder = |controller: &str| {
            let (_, mount) = controllers.iter().find(|(name, _)| name == controller)?;
            Folder::existing(mount, &path_of(controller)?)
        };
        let group = Group::One {
            cpu: folder("cpu"),
            accounting: folder("cpuacct"),
            cores: folder("cpuset"),
            memory: folder("memory"),
            storage: folder("blkio"),
            tasks: folder("pids"),
            unified: unified
                .as_ref()
                .and_then(|mount| Folder::existing(mount, &path_of("")?)),
        };
        group.main_folder().is_some().then_some(group)
    }
}
