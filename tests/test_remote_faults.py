"""What fails on the way to an NDIF server, on it, or on the way back costs nothing that was done,
or gives a sentence."""

import http.server
import io
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from nnsight import CONFIG
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from remote_server import ended, processes_of

import rgb_circuit as rgb
from rgb_circuit.calls import patching
from rgb_circuit.calls.direct_effects import Decomposed
from rgb_circuit.calls.play import Played
from rgb_circuit.conversation import prompt
from rgb_circuit.keeping import manifest, store
from rgb_circuit.measuring import measure
from rgb_circuit.remote import jobs, server
from rgb_circuit.running.execute import execute
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION


def _failing(wrapped):
    """Program: fails on the server."""
    with wrapped.trace(input_ids=torch.ones(1, 3, dtype=torch.long)):
        [].pop()
        logits = wrapped.output.logits.save()
    return logits


def test_a_job_that_fails_says_why(far):
    with pytest.raises(
        rgb.ServerError,
        match="the job failed on the NDIF server at .*: IndexError: pop from empty list; if it "
        "fails again",
    ):
        execute(far, _failing)


def test_a_key_that_is_refused_is_not_shown(ndif_server, monkeypatch):
    for key in ("a-secret", "11111111-2222-3333-4444-555555555555"):
        ndif_server.connect(monkeypatch, key=key)
        with pytest.raises(rgb.ServerError, match="refused the key; set NDIF_API_KEY") as raised:
            rgb.load("toy", remote=True)
        assert key not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("key", ["a-secret\n", " a-secret", "a-\nsecret", "a-sécret"])
def test_a_key_that_cannot_be_sent_is_not_shown(ndif_server, monkeypatch, key):
    ndif_server.connect(monkeypatch, key=key)
    with pytest.raises(rgb.InputError, match="set NDIF_API_KEY to the key alone") as raised:
        rgb.load("toy", remote=True)
    assert "cret" not in "".join(traceback.format_exception(raised.value))


def test_a_model_that_is_not_served(ndif_server, monkeypatch, random_folder):
    ndif_server.connect(monkeypatch)
    folder = str(random_folder["one-kv"])
    for revision, named in ((None, folder), ("main", f"{folder} at revision main")):
        with pytest.raises(rgb.ServerError, match=rf"does not serve {named} \(.*; nnsight.status"):
            rgb.load(folder, remote=True, revision=revision)


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with pytest.raises(
        rgb.ServerError,
        match="cannot reach the NDIF server at http://127.0.0.1:9 .*, after 5 tries; check "
        "NDIF_HOST",
    ):
        rgb.load("toy", remote="http://127.0.0.1:9")
    with pytest.raises(rgb.InputError, match="give a URL"):
        rgb.load("toy", remote="ndif.us")
    with pytest.raises(rgb.InputError, match="the server's choice"):
        rgb.load("toy", remote=True, dtype="float16")


def test_a_connection_that_breaks_costs_nothing(spoiled, monkeypatch, toy):
    running, spoiler = spoiled
    running.connect(monkeypatch, url=spoiler.url)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.05)
    here, there = toy, rgb.load("toy", remote=True)
    trials = rgb.rgb_trials(here, 2)
    local = rgb.patch_heads(here, trials)
    # While the job is handed in, while it is asked after, and in the middle of its result.
    for after in (0, 10, 150, 500, 2000):
        spoiler.cut(after, times=2)
        before = there.server.requests
        np.testing.assert_allclose(
            rgb.patch_heads(there, trials)["effect"], local["effect"], atol=1e-4
        )
        assert there.server.requests - before <= 3
    spoiler.cut(2000)
    before = there.server.requests
    rgb.patch_heads(there, trials)
    assert there.server.requests - before == 1, (
        "a result that was cut is fetched again, not computed again"
    )


def test_a_server_that_dies_and_comes_back(spoiled, monkeypatch, toy):
    running, spoiler = spoiled
    running.connect(monkeypatch, url=spoiler.url)
    monkeypatch.setattr(server, "LOST", 3.0)
    monkeypatch.setattr(server, "TRIES", 8)
    here, there = toy, rgb.load("toy", remote=True)
    trials = rgb.rgb_trials(here, 4)

    def crash():
        time.sleep(0.1)
        running.kill()
        gone.append(ended(tree))
        running.start()

    tree, gone = processes_of(running.pid), []
    assert any("redis" in process.name() for process in tree)
    crashing = threading.Thread(target=crash)
    crashing.start()
    remote = [rgb.patch_heads(there, [trial], positions="all") for trial in trials]
    crashing.join()
    # Redis ends with the server.
    assert gone == [True]
    for trial, frame in zip(trials, remote):
        np.testing.assert_allclose(
            frame["effect"], rgb.patch_heads(here, [trial], positions="all")["effect"], atol=1e-4
        )


def test_a_result_that_holds_more_than_tensors_is_not_unpickled(far):
    backend = server._Backend(far.server)
    backend.compress = False
    blob = io.BytesIO()
    torch.save({"found": Path("anything")}, blob)
    with pytest.raises(Exception, match="[Ww]eights.only"):
        backend.finalize(blob.getvalue())


def test_the_host_is_the_one_that_nnsight_is_configured_for(monkeypatch):
    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9/")
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with pytest.raises(rgb.ServerError, match="http://127.0.0.1:9 "):
        rgb.load("toy", remote=True)


def test_a_result_that_expired_is_computed_again(far, monkeypatch):
    download, gone = RemoteBackend.download_result, []

    def expired_once(self, url):
        if not gone:
            gone.append(url)
            request = httpx.Request("GET", url)
            raise httpx.HTTPStatusError(
                "gone", request=request, response=httpx.Response(403, request=request)
            )
        return download(self, url)

    monkeypatch.setattr(RemoteBackend, "download_result", expired_once)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    before = far.server.requests
    assert len(rgb.play(far, rgb.rgb_trials(far, 1)))
    assert gone and far.server.requests - before == 2


def collected(model, measurements, folder):
    """The frames of some measurements, from a server that is not waited for."""
    about = manifest.manifest(model, measurements[0].trials, {})
    for _ in range(50):
        try:
            return measure.measure(
                model, measurements, store.open_store(folder, about, detached=True)
            )
        except jobs.Pending:
            time.sleep(0.1)


@pytest.fixture
def handed_out_once(monkeypatch):
    """Results are gone when they are asked for again, as if an hour passed between two rounds."""
    download, handed_in, handed_out = RemoteBackend.download_result, jobs.Jobs.handed_in, set()

    def an_hour_ago(self, number):
        known = handed_in(self, number)
        return known and (known[0], known[1] - 3600)

    def once(self, url):
        if self.job_id in handed_out:
            request = httpx.Request("GET", url)
            httpx.Response(410, request=request).raise_for_status()
        handed_out.add(self.job_id)
        return download(self, url)

    monkeypatch.setattr(jobs.Jobs, "handed_in", an_hour_ago)
    monkeypatch.setattr(RemoteBackend, "download_result", once)


def test_a_detached_mean_in_several_requests_is_the_mean(
    ndif_server, monkeypatch, handed_out_once, tmp_path, toy
):
    ndif_server.connect(monkeypatch)
    here, there = toy, rgb.load("toy", remote=True)
    # A question that is new to the model, which is asked first.
    trials = [
        replace(trial, prompt=prompt(BACKGROUND_QUESTION)) for trial in rgb.rgb_trials(here, 6)
    ]
    asked = [patching.PatchedHeads.of(here, trials, "mean", "erased"), Played.of(trials)]
    expected, before = measure.measure(here, asked), there.server.requests
    effects, answers = collected(there, asked, tmp_path)
    np.testing.assert_allclose(effects["effect"], expected[0]["effect"], atol=1e-4)
    np.testing.assert_allclose(answers["logit_odd"], expected[1]["logit_odd"], atol=1e-4)
    # The question, and of each trial what is averaged, the answers meanwhile, and the effects: each
    # once.
    assert there.server.requests - before == 1 + 3 * 6
    assert not list(tmp_path.rglob("*.jobs"))


def test_what_a_model_cannot_do_is_handed_in_once(far, monkeypatch, tmp_path):
    def misbehaves(model, drift, length):
        raise rgb.InputError("it ends elsewhere")

    monkeypatch.setattr(measure, "check_unedited", misbehaves)
    trials, before = rgb.rgb_trials(far, 3), far.server.requests
    asked = [patching.PatchedHeads.of(far, trials, "clean", "erased"), Played.of(trials)]
    for _ in range(4):
        with pytest.raises(rgb.InputError, match="it ends elsewhere"):
            collected(far, asked, tmp_path)
    # Then its refusal is kept.
    assert far.server.requests - before == len(trials)


def test_detached_trials_of_one_name_get_their_own_results(far, toy, tmp_path):
    one, other = rgb.rgb_trials(toy, 2)
    trials = one, replace(other, name=one.name)
    asked = [Decomposed((trial,), ("clean",)) for trial in trials]
    for found, expected in zip(collected(far, asked, tmp_path), measure.measure(toy, asked)):
        np.testing.assert_allclose(found["direct_effect"], expected["direct_effect"], atol=1e-4)


def test_what_is_no_server_gives_a_sentence(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    for url in ("", "http://", "http://127.0.0.1:1:2", "ftp://ndif.us"):
        with pytest.raises(rgb.InputError, match="give a URL"):
            rgb.load("toy", remote=url)
    for url in (
        "http://me:secret@127.0.0.1",
        "me:secret@127.0.0.1",
        "http://me:secret@127.0.0.1:1:2",
    ):
        with pytest.raises(rgb.InputError, match="remote holds a user or a password") as raised:
            rgb.load("toy", remote=url)
        assert "secret" not in str(raised.value)


class Something(http.server.BaseHTTPRequestHandler):
    """No NDIF: answers with a page, and the status that the address begins with."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>\n<h1>hello</h1>\n</html>\n")

    def log_message(self, *_):
        pass


def test_what_is_another_server_gives_a_sentence(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with http.server.HTTPServer(("127.0.0.1", 0), Something) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for status, sentence in (
            (
                200,
                "cannot reach .* \\(what it answers is not what an NDIF server says\\), after 5 "
                "tries",
            ),
            (502, "cannot reach .* \\(HTTP 502 Bad Gateway\\), after 5 tries"),
            (301, "does not take jobs \\(HTTP 301 Moved Permanently\\); check the URL"),
            (404, "does not take jobs \\(HTTP 404 Not Found\\); check the URL"),
        ):
            with pytest.raises(rgb.ServerError, match=sentence):
                rgb.load("toy", remote=f"http://127.0.0.1:{other.server_port}/{status}")
        other.shutdown()


def test_the_link_of_a_result_is_not_shown(far, monkeypatch):
    def broken(self, url):
        request = httpx.Request("GET", "https://store/result?signature=secret")
        httpx.Response(500, request=request).raise_for_status()

    monkeypatch.setattr(RemoteBackend, "download_result", broken)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with pytest.raises(rgb.ServerError, match="HTTP 500 Internal Server Error"):
        rgb.play(far, rgb.rgb_trials(far, 1))


def test_a_job_that_the_server_gave_up_is_handed_in_again(far, monkeypatch):
    poll, ended = RemoteBackend.poll, []

    def evicted_once(self, tracer=None):
        if not ended:
            ended.append(self.job_id)
            raise RemoteError(
                "Replica was evicted while processing your request. Please try again later."
            )
        assert self.job_id not in (None, ended[0])
        return poll(self, tracer)

    monkeypatch.setattr(RemoteBackend, "poll", evicted_once)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    before = far.server.requests
    assert len(rgb.play(far, rgb.rgb_trials(far, 1)))
    assert far.server.requests - before == 2
