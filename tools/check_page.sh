#!/usr/bin/env bash
# The page of `trivec serve` in a real Chromium: bash tools/check_page.sh [path of trivec]
# Needs Node 20 or newer and Chromium; as root on Debian the latter is installed. Without them this fails, unless TRIVEC_PAGE_TESTS=skip.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${TRIVEC_PAGE_TESTS:-}" = skip ]; then
    echo "SKIPPED: the page tests, because TRIVEC_PAGE_TESTS=skip"
    exit 0
fi
export TRIVEC_BIN
TRIVEC_BIN=$(realpath "${1:-target/release/trivec}")
found() { command -v "$1" > /dev/null; }
if [ -z "${CHROMIUM:-}" ] && ! found chromium && ! found chromium-browser && ! found google-chrome; then
    if [ "$(id -u)" = 0 ] && found apt-get; then
        apt-get update -qq
        # The fonts are for the screenshots; the tests do not need them.
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk > /dev/null
    fi
fi
cd tests/page
PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund
node run.mjs
