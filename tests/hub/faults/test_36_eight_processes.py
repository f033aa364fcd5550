from multiprocessing.context import ForkServerContext

from tests.hub.faults.harness import SHA256, Child, Zoo, card_of


def test_one_downloads_and_eight_load(zoo: Zoo, processes: ForkServerContext) -> None:
    card = card_of(zoo.url("slow"))
    children = [Child(processes, card, zoo.settings) for _ in range(8)]
    results = [child.result() for child in children]
    assert results == [(str(zoo.store.blobs / SHA256), zoo.url("slow").address)] * 8
    assert len(zoo.requests("slow")) == 1
    assert zoo.unfinished() == []
