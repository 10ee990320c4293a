#!/usr/bin/env python3
"""What captiond is made of: writes a bill of materials and docs/supply-chain.md.

    scripts/supply_chain.py [--sbom FILE] [--write-docs] [--advisories]

Licences, banned crates and sources are checked by cargo-deny (deny.toml) without a network; `--advisories` also fetches
the RustSec database and checks it. Exit code 1 when a check fails. The bill is CycloneDX 1.5 in JSON: every crate that
the daemon is built of, by the features of the packages, with version, licence and the hash in Cargo.lock. Needs
cargo-deny (`cargo install cargo-deny --locked`), and the crates in cargo's cache.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"
FEATURES = "rtsp"


def output(*command):
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}: {ran.stderr.strip()}")
    return ran.stdout


def crates(features):
    """The packages that the daemon is built of, without those for tests, in the order of their names."""
    metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform",
                                 TARGET, *features))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    start = next(id for id, package in packages.items() if package["name"] == "captiond" and not package["source"])
    # cargo metadata joins the features of all members; cargo tree knows those of the daemon alone.
    tree = output("cargo", "tree", "--locked", "--offline", "--package", "captiond", "--target", TARGET, "--edges",
                  "normal,build", "--prefix", "none", "--format", "{p}", *features)
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    chosen = [package for package in packages.values() if (package["name"], f"v{package['version']}") in used]
    links = {packages[id]["id"]: [dep for dep in node["dependencies"] if dep in {c["id"] for c in chosen}]
             for id, node in nodes.items() if id in {c["id"] for c in chosen}}
    return start, sorted(chosen, key=lambda p: (p["name"], p["version"])), links


def hashes():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}


def licence(package):
    """In the syntax of SPDX; the slash is an older way to say OR."""
    return (package["license"] or "").replace("/", " OR ").replace("  ", " ")


def bill(start, chosen, links):
    known = hashes()
    purl = lambda package: f"pkg:cargo/{package['name']}@{package['version']}"
    refs = {package["id"]: purl(package) for package in chosen}

    def component(package):
        entry = {"type": "library", "bom-ref": purl(package), "name": package["name"], "version": package["version"],
                 "purl": purl(package)}
        if checksum := known.get((package["name"], package["version"])):
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if licence(package):
            entry["licenses"] = [{"expression": licence(package)}]
        return entry

    root = next(package for package in chosen if package["id"] == start)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": component(root) | {"type": "application"}},
        "components": [component(package) for package in chosen if package["id"] != start],
        "dependencies": [{"ref": refs[id], "dependsOn": sorted(refs[dep] for dep in deps)}
                         for id, deps in sorted(links.items(), key=lambda item: refs[item[0]])],
    }


def deny(*checks):
    """What cargo-deny says of each check, and its warnings by their kind."""
    ran = subprocess.run(["cargo", "deny", *(() if "advisories" in checks else ("--offline",)), "--format", "json", "check",
                          *checks], cwd=ROOT, capture_output=True, text=True, check=False)
    results, found, errors = {}, collections.Counter(), []
    for line in ran.stderr.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        fields = said.get("fields", {})
        if said["type"] == "diagnostic":
            found[(fields["severity"], fields.get("code", "?"))] += 1
            if fields["severity"] == "error":
                errors.append(fields["message"])
        elif said["type"] == "log":
            errors += [fields["message"]] if fields.get("level") == "ERROR" else []
        elif said["type"] == "summary":
            results = {check: fields[check]["errors"] == 0 for check in checks if check in fields}
    if ran.returncode and not errors:
        errors.append(ran.stderr.strip()[-500:])
    return {check: results.get(check, False) for check in checks}, found, errors


def with_unsafe_allowed():
    """Where our own code may be unsafe: the files that lift the lint of the workspace."""
    files = [*ROOT.glob("src/**/*.rs"), *ROOT.glob("crates/*/src/**/*.rs")]
    lifted = re.compile(r"#!?\[(?:cfg_attr\([^]]*?)?(allow|expect)\(\s*unsafe_code")
    return sorted(str(path.relative_to(ROOT)) for path in files if lifted.search(path.read_text()))


def document(default, packaged, results, found):
    licences = collections.Counter(licence(package) for package in packaged if package["source"])
    config = tomllib.loads((ROOT / "deny.toml").read_text())
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    version = lambda package: tuple(int(part) for part in (package["rust_version"] or "0").split("."))
    newest = max((package for package in packaged if package["source"]), key=version)
    newest = f"{newest['rust_version']} ({newest['name']})"
    duplicates = sum(n for (_, code), n in found.items() if code == "duplicate")
    text = [
        "# What captiond is made of", "",
        "Written by `scripts/supply_chain.py --write-docs`.", "",
        f"- {sum(bool(p['source']) for p in default)} crates of crates.io in the default build, "
        f"{sum(bool(p['source']) for p in packaged)} as the packages are built (`--features {FEATURES}`), for {TARGET}, those "
        "that run at build time included; all with the hash in `Cargo.lock`, and built with `--locked`",
        f"- the oldest Rust that is promised: {manifest['workspace']['package']['rust-version']}; the crates ask for {newest} at "
        "most",
        f"- cargo-deny (`deny.toml`): {', '.join(f'{check} ' + ('ok' if good else '**failed**') for check, good in results.items())}; "
        f"{duplicates} crates are there in more than one version",
        f"- our own `unsafe`: denied by lint but in {', '.join(f'`{path}`' for path in with_unsafe_allowed()) or 'no file'}; "
        "each block says why it is sound",
        "- bill of materials: `scripts/supply_chain.py --sbom captiond.cdx.json` (CycloneDX 1.5)", "",
        "## Licences", "", "| licence | crates |", "|---|---:|",
        *(f"| {name} | {n} |" for name, n in sorted(licences.items(), key=lambda item: (-item[1], item[0]))), "",
        "## Advisories", "",
        "`scripts/supply_chain.py --advisories` fetches the RustSec database and checks it; without a network to where that lies, "
        "everything else is checked. Each exception has its reason:", "",
        "| advisory | why it is an exception |", "|---|---|",
        *(f"| [{entry['id']}](https://rustsec.org/advisories/{entry['id']}.html) | {entry['reason']} |"
          for entry in config["advisories"]["ignore"]), "",
    ]
    return "\n".join(text)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--sbom", default="", help="write the bill of materials here")
    args.add_argument("--write-docs", action="store_true")
    args.add_argument("--advisories", action="store_true")
    args = args.parse_args()
    _, default, _ = crates(())
    start, packaged, links = crates(("--features", FEATURES))
    if args.sbom:
        pathlib.Path(args.sbom).write_text(json.dumps(bill(start, packaged, links), indent=1) + "\n")
    checks = ("bans", "licenses", "sources") + (("advisories",) if args.advisories else ())
    results, found, errors = deny(*checks)
    for check, good in results.items():
        print(f"{'ok  ' if good else 'FAIL'} {check}")
    print(*errors, sep="\n", end="\n" if errors else "")
    if args.write_docs:
        path = ROOT / "docs/supply-chain.md"
        # What people have written below the line stays.
        mark = "<!-- below: by hand -->"
        rest = path.read_text().partition(mark)[2] if path.exists() else "\n"
        path.write_text(document(default, packaged, results, found) + mark + rest)
    sys.exit(0 if all(results.values()) else 1)


if __name__ == "__main__":
    main()
