#!/usr/bin/env bash
# Install what the tests against a real NDIF server need: redis, and the server's own environment, .venv-ndif.
# Run again, it does nothing. PYTHON names another interpreter for the environment, 3.11 or later.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v redis-server > /dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        echo "redis-server is missing: install it (on Debian: apt-get install redis-server), then run this again." >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server
fi

wanted=tests/ndif/requirements.txt
if ! cmp -s "$wanted" .venv-ndif/prepared.txt; then
    rm -rf .venv-ndif
    "${PYTHON:-python3}" -m venv .venv-ndif
    .venv-ndif/bin/pip install -q -r "$wanted"
    # ndif declares Python 3.12 and runs on 3.11 too; of its dependencies the server uses those above.
    .venv-ndif/bin/pip install -q --no-deps --ignore-requires-python ndif==0.1.2
    .venv-ndif/bin/python -c "import ndif.services.ray.sandbox.model, ndif.services.api.app, ndif.services.api.queue.dispatcher"
    cp "$wanted" .venv-ndif/prepared.txt
fi
