"""The recorder's Python side, driven by the messages of its page."""

import pytest

from varec_lib.data.recordings import Recordings
from varec_lib.errors import DataError
from varec_lib.predictor.page.recorder import SHOWN, Recorder
from varec_lib.predictor.sandbox import Limits


@pytest.fixture(scope="module")
def clip(write_video, tmp_path_factory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.webm", 12, fourcc="VP80").read_bytes()


class Page:
    """What the page sends to a `Recorder`, and what it is told."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.widget = Recorder(*arguments, **options)
        self.sent: list[tuple[dict, list]] = []
        self.widget.send = lambda content, buffers=None: self.sent.append((content, buffers or []))

    def tell(self, do: object, *buffers: bytes, **content: object) -> None:
        self.widget._receive({"do": do, **content}, [memoryview(data) for data in buffers])

    def upload(self, content: bytes, label: str = "wave", name: str = "camera.webm", piece: int = 1000) -> None:
        self.tell("begin", key="k", label=label, name=name, size=len(content))
        for offset in range(0, len(content), piece):
            self.tell("piece", content[offset : offset + piece], key="k", offset=offset)

    def said(self) -> dict:
        return self.sent[-1][0]


def test_a_clip_is_kept_under_its_label_and_session(tmp_path, clip):
    page = Page(tmp_path / "mine", ["wave", "nothing"], session="anna")
    assert page.widget.labels == [{"name": "wave", "here": 0, "all": 0}, {"name": "nothing", "here": 0, "all": 0}]
    page.upload(clip)
    assert page.said() == {"kind": "kept", "name": "wave/anna_001.webm"}
    assert [content.get("ended") for content, _ in page.sent[:-1]] == [False] * (len(page.sent) - 2) + [True]
    assert (tmp_path / "mine" / "videos" / "wave" / "anna_001.webm").read_bytes() == clip
    page.tell("session", name="ben")
    page.upload(clip)
    assert page.widget.labels[0] == {"name": "wave", "here": 1, "all": 2}
    assert page.widget.clips == [{"name": "wave/ben_001.webm", "label": "wave"}]
    assert any("2 of 3 sessions" in sentence for sentence in page.widget.advice)
    again = Page(tmp_path / "mine", session="ben").widget
    assert again.labels == [{"name": "wave", "here": 1, "all": 2}] and again.clips == page.widget.clips


def test_a_clip_can_be_seen_and_deleted_and_only_the_newest_are_shown(tmp_path, clip):
    page = Page(tmp_path / "mine", session="anna")
    for _ in range(SHOWN + 1):
        page.upload(clip)
    shown = [clip["name"] for clip in page.widget.clips]
    assert shown == [f"wave/anna_{number:03d}.webm" for number in range(SHOWN + 1, 1, -1)]
    page.tell("show", name=shown[0])
    assert page.sent[-1] == ({"kind": "clip", "name": shown[0], "type": "video/webm"}, [clip])
    page.tell("remove", name=shown[0])
    assert shown[0] not in [clip["name"] for clip in page.widget.clips]
    page.tell("show", name=shown[0])
    assert page.said()["kind"] == "problem"


def test_labels_are_added_and_bad_names_refused(tmp_path):
    page = Page(tmp_path / "mine")
    page.tell("label", name="jump")
    page.tell("label", name="jump")
    assert [row["name"] for row in page.widget.labels] == ["jump"]
    session = page.widget.session
    for do in ("label", "session"):
        page.tell(do, name="../../etc")
        assert page.said()["kind"] == "problem"
    assert [row["name"] for row in page.widget.labels] == ["jump"] and page.widget.session == session


def test_what_is_refused_is_not_kept(tmp_path, clip):
    page = Page(tmp_path / "mine", limits=Limits(megabytes=1))
    page.upload(b"no video" * 1000)
    assert page.said()["kind"] == "problem" and page.said()["key"] == "k"
    page.tell("begin", key="k", label="wave", name="large.webm", size=2_000_000)
    assert "1 MB" in page.said()["sentence"]
    page.tell("begin", key="k", label="../x", name="a.webm", size=len(clip))
    page.tell("piece", clip, key="k", offset=0)
    assert page.said()["kind"] == "problem"
    page.tell("begin", key="k", label="wave", name="a.webm", size=len(clip))
    page.tell("piece", clip[5:], key="k", offset=5)
    assert page.said() == {"kind": "received", "key": "k", "bytes": 0, "ended": False}  # it waits for what is missing
    page.tell("piece", clip + b"x", key="k", offset=0)
    assert "again" in page.said()["sentence"]
    assert Recordings(tmp_path / "mine").table().empty


def test_two_files_at_once_are_both_kept_each_in_the_session_of_its_beginning(tmp_path, clip):
    page, half = Page(tmp_path / "mine"), len(clip) // 2
    for key, session in (("a", "anna"), ("b", "ben")):
        page.tell("session", name=session)
        page.tell("begin", key=key, label="wave", session=session, name="x.webm", size=len(clip))
    for offset, part in ((0, clip[:half]), (half, clip[half:])):
        for key in "ab":
            page.tell("piece", part, key=key, offset=offset)
    assert sorted(Recordings(tmp_path / "mine").table()["group"]) == ["anna", "ben"]
    assert not page.widget._uploads


def test_an_upload_whose_page_is_gone_makes_room(tmp_path, monkeypatch):
    page = Page(tmp_path / "mine")
    for number in range(8):
        page.tell("begin", key=str(number), label="wave", name="x.webm", size=10)
    page.tell("begin", key="one more", label="wave", name="x.webm", size=10)
    assert page.said()["kind"] == "problem" and "too many" in page.said()["sentence"]
    monkeypatch.setattr("varec_lib.predictor.page.upload.STALLED_S", -1)
    page.tell("begin", key="again", label="wave", name="x.webm", size=10)
    assert page.said()["kind"] == "received" and list(page.widget._uploads) == ["again"]


@pytest.mark.parametrize(
    "content",
    [{}, None, [], {"do": "piece"}, {"do": "piece", "key": "x"}, {"do": "begin"}, {"do": "remove"}, {"do": []}],
)
def test_messages_that_make_no_sense_are_ignored(tmp_path, content):
    page = Page(tmp_path / "mine")
    page.widget._receive(content, [])
    assert page.sent == []


def test_another_dataset_is_not_written_into(numbered_dataset):
    with pytest.raises(DataError):
        Recorder(numbered_dataset)
