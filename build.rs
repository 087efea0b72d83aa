//! Links whatever embeds Python (the binary and the tests) to the libpython it is built for, packs the Python
//! package into the binary, and compresses plotly.js for the pages of reports.
//!
//! An extension module (a wheel) gets neither: the interpreter that imports it brings its own library.

#[cfg(feature = "python")]
mod embedding {
    use std::env;
    use std::error::Error;
    use std::path::Path;

    /// What the launcher has to know about the interpreter, one answer per line.
    const QUESTIONS: &str = "import sys, sysconfig
print(sys.base_prefix)
print(sysconfig.get_config_var('INSTSONAME') or '')
print('%d.%d' % sys.version_info[:2])";

    pub(super) fn prepare() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-env-changed=PYO3_BUILD_EXTENSION_MODULE");
        if env::var_os("PYO3_BUILD_EXTENSION_MODULE").is_some() {
            return Ok(());
        }
        let config = pyo3_build_config::get();
        let folder = config.lib_dir().unwrap_or_default();
        // RUNPATH yields to LD_LIBRARY_PATH, by which the launcher hands over another libpython
        // when this one is gone.
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{folder}");
        println!("cargo::rustc-env=MOLOTOV_PYTHON_FOLDER={folder}");
        let answers = config.run_python_script(QUESTIONS)?;
        for (variable, answer) in ["HOME", "LIBRARY", "VERSION"].iter().zip(answers.lines()) {
            println!("cargo::rustc-env=MOLOTOV_PYTHON_{variable}={answer}");
        }

        let root = env::var("CARGO_MANIFEST_DIR")?;
        let package = Path::new(&root).join("python/molotov");
        println!("cargo::rerun-if-changed={}", package.display());
        println!("cargo::rerun-if-changed=src/launcher/pack.py");
        let folders = [
            ("MOLOTOV_PACKAGE", package.into_os_string()),
            ("MOLOTOV_OUT", env::var("OUT_DIR")?.into()),
        ];
        config.run_python_script_with_envs(include_str!("src/launcher/pack.py"), folders)?;
        Ok(())
    }
}

#[cfg(feature = "report")]
mod charts {
    use std::env;
    use std::error::Error;
    use std::fs;
    use std::io::Write as _;
    use std::path::PathBuf;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use flate2::{Compression, write::DeflateEncoder};
    use sha2::{Digest, Sha256};

    /// The kinds of charts that pages have, besides lines and points, which are always there.
    const KINDS: [&str; 2] = ["bar", "heatmap"];

    /// Takes `plotly.js` out of the crate's tags (`MathJax` comes second, and is left out), cuts off what no page needs,
    /// deflates the rest, and notes its hash.
    pub(super) fn prepare() -> Result<(), Box<dyn Error>> {
        let tags = plotly::Plot::offline_js_sources();
        let script = tags
            .split_once('>')
            .and_then(|(_, rest)| rest.split_once("</script>"))
            .map(|(script, _)| script.trim())
            .filter(|script| script.contains("plotly.js v"))
            .ok_or("the plotly crate has no plotly.js where it is looked for")?;
        let script = trimmed(script).unwrap_or_else(|| {
            println!("cargo::warning=plotly.js is built in another way than expected: pages carry all of it");
            script.to_owned()
        });
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(script.as_bytes())?;
        let folder = PathBuf::from(env::var("OUT_DIR")?);
        fs::write(
            folder.join("plotly.txt"),
            STANDARD.encode(encoder.finish()?),
        )?;
        let hash = STANDARD.encode(Sha256::digest(&script));
        fs::write(folder.join("plotly.sha256"), hash)?;
        Ok(())
    }

    /// The part of `plotly.js` that draws [`KINDS`]: less than a quarter, and that much faster to open.
    ///
    /// The bundle is a list of modules, `var A=wrap((exports,module)=>{…});`, each behind those that it needs. The last of
    /// them registers the kinds of charts: `core.register([A(),B(),…])`. What lies between the last kind that is wanted
    /// and that module is left out, and only the wanted kinds are registered. `None` when the bundle is not made like
    /// that. The tests in a browser draw every kind of chart with what is left.
    fn trimmed(script: &str) -> Option<String> {
        const REGISTER: &str = ".register([";
        let list = script.rfind(REGISTER)? + REGISTER.len();
        let (head, rest) = script.split_at(list);
        let (entries, tail) = rest.split_once(']')?;
        let mut kept = Vec::new();
        let mut end = 0;
        for entry in entries.split(',') {
            // A kind's module hands on another one, which is right before it:
            // var B=wrap((e,m)=>{m.exports={…,moduleType:"trace",name:"bar",…}});var A=wrap((e,m)=>{"use strict";m.exports=B()});
            let from = head.find(&format!("var {}=", entry.strip_suffix("()")?))?;
            let to = from + head.get(from..)?.find("()});")? + "()});".len();
            let (_, inner) = head.get(from..to)?.rsplit_once('=')?;
            let inner = head.find(&format!("var {}=", inner.strip_suffix("()});")?))?;
            let Some(text) = head.get(inner..from) else {
                continue;
            };
            let is = |kind: &str| text.contains(&format!("moduleType:\"trace\",name:\"{kind}\""));
            if KINDS.into_iter().any(is) {
                kept.push(entry);
                end = to.max(end);
            }
        }
        // `var LAST=wrap((e,m)=>{var core=CORE();core.register([`
        let core = head.rfind("var ")?;
        let last = head.get(..core)?.rfind("var ")?;
        let (wanted, registering) = (head.get(..end)?, head.get(last..)?);
        (kept.len() == KINDS.len() && end < last)
            .then(|| format!("{wanted}{registering}{}]{tail}", kept.join(",")))
    }
}

#[cfg_attr(
    not(any(feature = "python", feature = "report")),
    expect(
        clippy::unnecessary_wraps,
        reason = "without these features nothing can fail"
    )
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "report")]
    charts::prepare()?;
    #[cfg(feature = "python")]
    embedding::prepare()?;
    Ok(())
}
