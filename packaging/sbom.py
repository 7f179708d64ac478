"""Reads `cargo metadata` and writes the packages that trivec-cli is built of as a CycloneDX document."""

import json
import sys


def main() -> None:
    data = json.load(sys.stdin)
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    root = next(id for id, package in packages.items() if package["name"] == "trivec-cli")
    reached, rest = set(), [root]
    while rest:
        id = rest.pop()
        if id not in reached:
            reached.add(id)
            # Not what only tests or build scripts use.
            rest += [d["pkg"] for d in nodes[id]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]

    def component(id: str) -> dict:
        package = packages[id]
        found = {
            "type": "application" if id == root else "library",
            "bom-ref": f"pkg:cargo/{package['name']}@{package['version']}",
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:cargo/{package['name']}@{package['version']}",
        }
        if package["license"]:
            found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        return found

    others = sorted((component(id) for id in reached if id != root), key=lambda one: (one["name"], one["version"]))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(root), "name": "trivec", "version": sys.argv[1]}},
        "components": others,
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
