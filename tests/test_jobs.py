"""What is kept of a part's jobs on a server, without one."""

import pytest

from rgb_circuit.remote.jobs import Jobs, Pending, gathering


def test_all_parts_that_wait_are_counted():
    with pytest.raises(Pending) as pending, gathering() as each:
        for waiting in (2, 0, 3):
            with each():
                raise Pending(waiting)
    assert pending.value.waiting == 5


def test_jobs_are_known_by_number_and_forgotten_with_their_results(tmp_path):
    jobs, other = Jobs(tmp_path / "part.jobs"), Jobs(tmp_path / "party.jobs")
    first, second = jobs.number(), jobs.number()
    jobs.note(first, ("one", 1.0))
    jobs.note(second, ("two", 2.0))
    assert jobs.handed_in(first) == ("one", 1.0) and jobs.handed_in(second) == ("two", 2.0)
    jobs.note(first, None)
    assert jobs.handed_in(first) is None and jobs.handed_in(second) == ("two", 2.0)
    jobs.keep(second, b"result")
    other.keep(first, b"another's")
    # A part that is computed again counts from its first request.
    again = Jobs(jobs.path)
    assert [again.result(again.number()) for _ in range(2)] == [None, b"result"]
    jobs.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["party.0.jobs"]
