"""Pack the Python package for the binary; run by build.rs with the interpreter that the binary embeds.

Writes the bytecode of every module, so that the binary need not compile at each start, its magic number,
and `package.rs`: a table of dotted name, whether it is a package, file name in tracebacks, source and
bytecode.
"""

import importlib.util
import json
import marshal
import os
import pathlib

root = pathlib.Path(os.environ["MOLOTOV_PACKAGE"])
out = pathlib.Path(os.environ["MOLOTOV_OUT"])
rows = []
for file in sorted(root.rglob("*.py")):
    parts = [root.name, *file.relative_to(root).with_suffix("").parts]
    package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if package else parts)
    shown = f"<{root.name}>/{file.relative_to(root).as_posix()}"
    bytecode = out / f"{name}.bytecode"
    bytecode.write_bytes(marshal.dumps(compile(file.read_bytes(), shown, "exec", dont_inherit=True)))
    quoted = {
        key: json.dumps(str(value))
        for key, value in {"name": name, "shown": shown, "file": file, "code": bytecode}.items()
    }
    rows.append(
        f"    Module {{ name: {quoted['name']}, package: {str(package).lower()}, file: {quoted['shown']}, "
        f"source: include_bytes!({quoted['file']}), code: include_bytes!({quoted['code']}) }},\n"
    )
(out / "magic").write_bytes(importlib.util.MAGIC_NUMBER)
(out / "package.rs").write_text("&[\n" + "".join(rows) + "]\n", encoding="utf-8")
