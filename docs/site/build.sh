#!/usr/bin/env bash
# Builds the site: build.sh ROOT MKDOCS CTL, where MKDOCS is the directory of the Python packages, and
# CTL verneuilctl. A dead link is an error.
set -euo pipefail
root=$1 mkdocs=$2 ctl=$3
pages=$root/build/site-pages
rm -rf "$pages" "$root/build/site"
mkdir -p "$pages/published"
cp "$root"/docs/*.md "$root/SECURITY.md" "$root/CHANGELOG.md" "$root/docs/site/site.css" "$pages"
cp "$root"/bench/published/* "$pages/published"
# Pages link to files beside docs/, which lie beside them here.
sed -i 's#](\.\./bench/published/#](published/#g; s#](\.\./SECURITY\.md#](SECURITY.md#g; s#](\.\./CHANGELOG\.md#](CHANGELOG.md#g; s#](docs/#](#g' "$pages"/*.md
# In a table, code has its bars as they are.
perl -pi -e 's/(`[^`]*`)/$1 =~ s{\\\|}{|}gr/ge if /^\|/' "$pages"/*.md
# What each command says of itself is a page, too.
"$ctl" man --markdown > "$pages/commands.md"
# Not --quiet: what is not said is not counted by --strict.
NO_MKDOCS_2_WARNING=1 PYTHONPATH=$mkdocs /usr/bin/python3 -m mkdocs build --strict --config-file "$root/docs/site/mkdocs.yml" 2> "$root/build/site.log" ||
  { cat "$root/build/site.log" >&2; exit 1; }
