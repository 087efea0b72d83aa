//! Looking at a command before it is started.
//!
//! Owns finding the program as the shell would, and telling what is wrong with it in words: not there, not executable,
//! made for another machine. A shell in between would hide these behind an exit code. Called by the local target.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;

/// Machines by their number in an ELF header (System V gABI, `e_machine`), and as `uname -m` names them.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "mips"),
    (21, "ppc64le"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// The program's file, as absolute as the command line has it.
pub(super) fn find(name: &str, directory: Option<&Path>) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        let path = directory.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
        return check(&path).map(|()| path);
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut not_executable = None;
    for folder in env::split_paths(&folders) {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(failure) => not_executable = Some(failure),
        }
    }
    Err(not_executable.unwrap_or_else(|| {
        Failure::configuration(format!("there is no program {name:?} in the PATH"))
            .advise("install it, activate its virtual environment, or give its path")
    }))
}

fn check(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let metadata = fs::metadata(path)
        .map_err(|error| Failure::configuration(format!("cannot start {shown}: {error}")))?;
    if !metadata.is_file() {
        return Err(Failure::configuration(format!(
            "cannot start {shown}: it is no file"
        )));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(
            Failure::configuration(format!("cannot start {shown}: it is not executable"))
                .advise(format!("chmod +x {shown}")),
        );
    }
    if let Some(machine) = machine_of(path) {
        let ours = env::consts::ARCH;
        // x86_64 runs x86 as well; whether aarch64 runs arm is up to the processor.
        let fits =
            machine == ours || matches!((ours, machine), ("x86_64", "x86") | ("aarch64", "arm"));
        if !fits {
            return Err(Failure::configuration(format!(
                "{shown} was built for {machine}, this machine is {ours}"
            ))
            .advise("build or install it for this architecture"));
        }
    }
    Ok(())
}

/// What an ELF file was built for; `None` for scripts, and for machines without a name here.
fn machine_of(path: &Path) -> Option<&'static str> {
    let mut head = [0_u8; 20];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    let [0x7f, b'E', b'L', b'F', _, order, ..] = head else {
        return None;
    };
    let [.., low, high] = head;
    let number = if order == 2 {
        u16::from_be_bytes([low, high])
    } else {
        u16::from_le_bytes([low, high])
    };
    let known = MACHINES.iter().find(|(machine, _)| *machine == number);
    known.map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(name: &str) -> String {
        find(name, None).unwrap_err().to_string()
    }

    #[test]
    fn programs_are_found_as_the_shell_finds_them() {
        assert!(find("sh", None).unwrap().ends_with("sh"));
        assert!(find("./sh", Some(Path::new("/bin"))).is_ok());
        assert!(failure("no-such-program-anywhere").contains("in the PATH"));
        assert!(failure("/etc/passwd").contains("not executable"));
        assert!(failure("/etc").contains("no file"));
        assert!(failure("/nonexistent/x").contains("No such file"));
    }

    #[test]
    fn a_program_for_another_machine_is_refused() {
        let path = env::temp_dir().join(format!("foreign-{}", std::process::id()));
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        head.resize(18, 0);
        head.extend(if env::consts::ARCH == "s390x" {
            [62, 0]
        } else {
            [22, 0]
        });
        fs::write(&path, head).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let text = failure(path.to_str().unwrap());
        fs::remove_file(&path).unwrap();
        assert!(text.contains("was built for"), "{text}");
    }
}
