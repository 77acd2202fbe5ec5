"""Tracks: equal to PoseTrack's poseval, worked out by hand, and beside a plain version of the same rules."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastpose.evaluate.files import scored_entries
from fastpose.metrics import (
    PoseResults,
    PoseTrackScores,
    Tracks,
    Truth,
    posetrack_tracking,
    read_results,
    read_truth,
    score_tracks,
)
from fastpose.metrics.clear_mot import ClearMatcher, most_pairs
from fastpose.metrics.posetrack import POSETRACK_JOINTS
from fastpose.metrics.posetrack_tracking import TRACKING_NEEDS
from fastpose.skeletons import COCO17, POSETRACK18_17

_FIGURES = {"mota": "MOTA", "motp": "MOTP", "precision": "precision", "recall": "recall", "ap": "AP"}


# As PoseTrack's poseval


def scores_of(sequence: dict[str, Any]) -> PoseTrackScores:
    truth = read_truth(sequence["annotations"], POSETRACK18_17, optional=TRACKING_NEEDS)
    entries = scored_entries(sequence["predictions"]["annotations"])
    return posetrack_tracking(truth, read_results(entries, 17, with_track_ids=True))


def assert_equal(scores: PoseTrackScores, values: dict[str, dict[str, float]]) -> None:
    """To the values of poseval, in percent; its neck is ``head_bottom``."""
    rows = scores.by_joint()
    assert set(rows) == {"total", *POSETRACK_JOINTS}
    for theirs, ours in _FIGURES.items():
        got = {("neck" if joint == "head_bottom" else joint): 100 * row[ours] for joint, row in rows.items()}
        assert got == pytest.approx(values[theirs], abs=1e-6), ours


@pytest.mark.shared
def test_equal_to_the_reference(shared: Path) -> None:
    content = json.loads((shared / "reference" / "tracking.json").read_text())
    scores = {name: scores_of(sequence) for name, sequence in content["files"].items()}
    assert len(content["results"]) == 4
    for result in content["results"]:
        assert_equal(PoseTrackScores.join(scores[name] for name in result["sequences"]), result["values"])


@pytest.mark.parametrize("name", ["000103", "000007"])
def test_equal_to_the_figures_carried(data: Path, name: str) -> None:
    content = json.loads((data / "tracking_figures.json").read_text())
    assert_equal(scores_of(content["sequences"][name]), content["values"][name])


# By hand: two people, 300 pixels apart, with heads of 30 pixels


def truth(frames: int = 4, people: int = 2, **changes: Any) -> Truth:
    count = frames * people
    image, person = np.repeat(np.arange(frames), people), np.tile(np.arange(people), frames)
    places = np.random.default_rng(0).uniform(0, 100, (17, 2)).round()
    values: dict[str, Any] = {
        "skeleton": POSETRACK18_17,
        "image_ids": np.arange(frames) + 50,
        "category_ids": np.ones(1, np.int64),
        "ids": np.arange(count),
        "image": image,
        "category": np.zeros(count, np.int64),
        "keypoints": places + np.stack([300.0 * person, 5.0 * image], 1)[:, None],
        "visible": np.ones((count, 17), np.uint8),
        "boxes_xywh": np.ones((count, 4)),
        "areas": np.ones(count),
        "ignore": np.zeros(count, bool),
        "crowd": np.zeros(count, bool),
        "head_sizes": np.full(count, 30.0),
        "track_ids": person + 7,
    }
    return Truth(**values | changes)


def found(of: Truth, track_ids: Any = None, moved: Any = 0.0) -> PoseResults:
    """The truth itself, moved to the right by so many pixels ([D] or [D, 17])."""
    points = of.keypoints.copy()
    points[..., 0] += np.reshape(moved, (-1, 1)) if np.ndim(moved) == 1 else moved
    ids = of.track_ids if track_ids is None else np.array(track_ids)
    return PoseResults(
        of.image_ids[of.image], points, np.full(points.shape[:2], 0.9), np.ones(len(points)), track_ids=ids
    )


def total(scores: PoseTrackScores) -> dict[str, float]:
    return scores.by_joint()["total"]


def test_all_right() -> None:
    scores = posetrack_tracking(truth(), found(truth(), [3, 1] * 4))
    assert total(scores) == dict.fromkeys((*_FIGURES.values(), "MOTP_of_matches"), 1.0) | {
        "switches": 0,
        "fragmentations": 0,
    }
    figures = scores.people.figures()
    assert (figures["MOTA"], figures["IDF1"], figures["people"], figures["found"]) == (1.0, 1.0, 8, 8)


def test_an_exchange_is_two_switches_a_joint_and_two_of_people() -> None:
    scores = posetrack_tracking(truth(), found(truth(), [0, 1, 0, 1, 1, 0, 1, 0]))
    row = total(scores)
    assert row["switches"] == 15 * 2
    assert row["MOTA"] == pytest.approx(1 - 2 / 6)  # the last frame does not count
    assert scores.people.clear.switches.tolist() == [2]
    assert scores.people.figures()["MOTA"] == pytest.approx(1 - 2 / 8)
    assert scores.people.figures()["IDF1"] == 0.5


def test_the_last_labelled_frame_counts_for_people_and_average_precision_only() -> None:
    wrong = found(truth(), moved=np.array([0.0] * 6 + [20.0] * 2))
    scores = posetrack_tracking(truth(), wrong)
    assert total(scores)["MOTA"] == total(scores)["recall"] == 1.0
    assert total(scores)["AP"] == pytest.approx(3 / 4)
    assert scores.people.figures()["recall"] == 3 / 4
    # An unlabelled frame behind it changes nothing: the last labelled one is the last.
    longer = truth(image_ids=np.arange(5) + 50)
    assert total(posetrack_tracking(longer, wrong)) == total(scores)


def test_a_frame_without_poses_is_one_miss_and_one_false_joint() -> None:
    three = truth(3, 3)
    some = found(three).select(three.image != 1)
    joints = posetrack_tracking(three, some).joints
    assert joints.truth.tolist() == [3 + 1] * 15
    assert joints.found.tolist() == [3 + 1] * 15
    assert joints.matched.tolist() == [3] * 15
    nobody = posetrack_tracking(three, found(three).select(three.image < 0))
    assert [total(nobody)[name] for name in ("MOTA", "MOTP", "precision", "recall", "AP")] == [-1.0, 0, 0, 0, 0]
    assert np.isnan(total(nobody)["MOTP_of_matches"])
    assert nobody.people.figures()["misses"] == 9


def test_motp_of_poseval_and_of_the_matches() -> None:
    """Each match is 0.2 heads away and logged twice: as a pair that could be one, and as a match."""
    scores = posetrack_tracking(truth(), found(truth(), moved=6.0))
    assert total(scores)["MOTP"] == pytest.approx(1 - 2 * 0.2)
    assert total(scores)["MOTP_of_matches"] == pytest.approx(1 - 0.2)


def test_half_a_head_is_near() -> None:
    near = posetrack_tracking(truth(), found(truth(), moved=15.0))
    far = posetrack_tracking(truth(), found(truth(), moved=15.01))
    assert (total(near)["recall"], total(far)["recall"]) == (1.0, 0.0)


def test_a_person_is_found_by_half_of_the_joints() -> None:
    """15 are annotated; 8 that are near are enough, 7 are not."""
    moved = np.zeros((8, 17))
    ears = POSETRACK18_17.indices(("left_ear", "right_ear"))
    measured = [k for k in range(17) if k not in ears]
    moved[:, measured[:7]] = 50.0
    assert posetrack_tracking(truth(), found(truth(), moved=moved)).people.figures()["recall"] == 1.0
    moved[:, measured[:8]] = 50.0
    assert posetrack_tracking(truth(), found(truth(), moved=moved)).people.figures()["recall"] == 0.0


def test_ignored_regions_take_people_and_poses_out() -> None:
    everything = [np.array([[-1e3, -1e3], [1e3, -1e3], [1e3, 1e3], [-1e3, 1e3]])]
    left = [np.array([[-50.0, -1e3], [150.0, -1e3], [150.0, 1e3], [-50.0, 1e3]])]
    some = truth(ignored_regions=[[], left, [], []])
    scores = posetrack_tracking(some, found(truth(), [0, 1, 9, 1, 0, 1, 0, 1]))
    assert scores.joints.truth.tolist() == [5] * 15
    assert total(scores)["MOTA"] == 1.0
    assert scores.people.figures()["people"] == 7
    # Nobody is left on the frame: one miss and one false joint, as without poses.
    some = truth(ignored_regions=[[], everything, [], []])
    assert posetrack_tracking(some, found(truth())).joints.truth.tolist() == [5] * 15
    assert total(posetrack_tracking(some, found(truth())))["MOTA"] == pytest.approx(1 - 2 / 5)


def test_sequences_are_counted_together() -> None:
    good, bad = posetrack_tracking(truth(), found(truth())), posetrack_tracking(truth(7), found(truth(7), moved=50.0))
    both = PoseTrackScores.join([good, bad])
    assert total(both)["recall"] == pytest.approx(6 / (6 + 12))
    assert total(both)["AP"] == pytest.approx(0.5 * 8 / 22, abs=0.2)
    assert both.people.figures()["recall"] == pytest.approx(8 / 22)
    assert both.matches.annotated.shape == (11, 15)
    assert both.matches.frame.max() == 10


def test_the_mean_of_some_joints() -> None:
    moved = np.zeros((8, 17))
    moved[:, POSETRACK18_17.index("nose")] = 50.0
    scores = posetrack_tracking(truth(), found(truth(), moved=moved))
    assert total(scores)["recall"] == pytest.approx(14 / 15)
    assert scores.by_joint(["nose", "head_top"])["total"]["recall"] == 0.5
    assert set(scores.by_joint(["nose"])) == {"total", "nose"}


@pytest.mark.parametrize(
    ("of", "poses", "said"),
    [
        (truth(track_ids=None), found(truth()), "annotations: no track ids"),
        (truth(track_ids=np.zeros(8, np.int64)), found(truth()), "annotations: track_id 0 is twice on image 50"),
        (truth(), found(truth(), [0, 1, 0, 1, 5, 5, 0, 1]), "results: track_id 5 is twice on image 52"),
        (truth(head_sizes=None), found(truth()), "a person has no head box"),
        (truth(3), found(truth()), "results: number 6 is of image_id 53, which is not annotated"),
    ],
)
def test_what_cannot_be_measured(of: Truth, poses: PoseResults, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        posetrack_tracking(of, poses)


def test_results_without_track_ids() -> None:
    poses = found(truth())
    with pytest.raises(ValueError, match="results: no track ids"):
        posetrack_tracking(truth(), PoseResults(poses.image_ids, poses.keypoints, poses.keypoint_scores, poses.scores))


# By boxes or poses


def boxes_at(*lefts: float) -> list[list[float]]:
    return [[left, 0.0, left + 10.0, 20.0] for left in lefts]


def test_fragments_switches_and_who_is_missing() -> None:
    """One person through six frames: found, not found, found again, away, found by another track."""
    true = Tracks(frames=[0, 1, 2, 3, 5], track_ids=[4] * 5, boxes=boxes_at(0, 0, 0, 0, 0))
    own = Tracks(frames=[0, 1, 2, 3, 4, 5], track_ids=[0, 0, 0, 0, 0, 1], boxes=boxes_at(0, 90, 1, 0, 0, 0))
    figures = score_tracks(true, own).figures()
    assert (figures["people"], figures["found"], figures["misses"], figures["false"]) == (5, 6, 1, 2)
    assert (figures["switches"], figures["fragmentations"]) == (1, 1)  # not to be there is no fragment
    assert figures["MOTA"] == pytest.approx(1 - (1 + 2 + 1) / 5)
    assert figures["IDF1"] == pytest.approx(2 * 3 / 11)
    assert (figures["IDP"], figures["IDR"]) == (3 / 6, 3 / 5)
    assert figures["MOTP"] == pytest.approx((3 + 9 / 11) / 4)


def test_who_was_matched_stays_matched() -> None:
    """Another pose is nearer in the second frame; the old track is near enough."""
    true = Tracks(frames=[0, 1], track_ids=[0, 0], boxes=boxes_at(0, 0))
    own = Tracks(frames=[0, 1, 1], track_ids=[5, 5, 6], boxes=boxes_at(0, 2, 0))
    figures = score_tracks(true, own).figures()
    assert (figures["switches"], figures["false"]) == (0, 1)


def test_scores_of_sequences_are_added() -> None:
    true = Tracks(frames=[0, 1], track_ids=[0, 0], boxes=boxes_at(0, 0))
    good, bad = score_tracks(true, true), score_tracks(true, Tracks(frames=[0], track_ids=[1], boxes=boxes_at(99)))
    figures = (good + bad).figures()
    assert (figures["people"], figures["found"], figures["recall"]) == (4, 3, 0.5)
    assert figures["IDF1"] == pytest.approx(2 * 2 / 7)


def test_nobodys_tracks_and_empty_sides() -> None:
    true = Tracks(frames=[3, 4], track_ids=[0, 0], boxes=boxes_at(0, 0))
    own = Tracks(frames=[3, 3, 4], track_ids=[-1, -1, 2], boxes=[[np.nan] * 4, *boxes_at(0, 0)])
    figures = score_tracks(true, own).figures()
    assert (figures["found"], figures["misses"], figures["false"]) == (1, 1, 0)
    none = Tracks(frames=[], track_ids=[], boxes=[])
    assert score_tracks(true, none).figures()["MOTA"] == 0.0
    figures = score_tracks(none, true).figures()
    assert figures["false"] == 2
    assert np.isnan(figures["MOTA"])
    assert np.isnan(score_tracks(none, none).figures()["IDF1"])


def test_poses_by_their_similarity() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).repeat(2, 0)
    true = Tracks(frames=[0, 1], track_ids=[0, 0], keypoints=points, areas=[5000.0, 5000.0])
    own = Tracks(frames=[0, 1], track_ids=[9, 9], keypoints=points + np.array([0.0, 100.0])[:, None, None])
    figures = score_tracks(true, own, by="oks", sigmas=COCO17.sigmas).figures()
    assert (figures["recall"], figures["MOTP"]) == (0.5, 1.0)
    # Half of the keypoints say nothing: one that is not predicted agrees with nothing, 8 of 17 are too few.
    gone = points.copy()
    gone[:, :9] = np.nan
    lost = Tracks(frames=[0, 1], track_ids=[9, 9], keypoints=gone)
    assert score_tracks(true, lost, by="oks", sigmas=COCO17.sigmas).figures()["recall"] == 0.0
    assert score_tracks(true, lost, by="oks", sigmas=COCO17.sigmas, least=0.4).figures()["recall"] == 1.0
    # Keypoints that are not annotated do not count; people without any are not asked for.
    visible = np.ones((2, 17))
    visible[0, :9], visible[1] = 0, 0
    seen = Tracks(frames=[0, 1], track_ids=[0, 0], keypoints=gone, visible=visible, boxes=[[0, 0, 100, 100]] * 2)
    figures = score_tracks(seen, lost, by="oks", sigmas=COCO17.sigmas).figures()
    assert (figures["people"], figures["recall"], figures["false"]) == (1, 1.0, 1)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"track_ids": [0, 0]}, {}, "found: track 0 is twice on frame 0"),
        ({"track_ids": [0.5, 1]}, {}, "found: track_ids: expected integers"),
        ({"frames": [0]}, {}, r"found: frames: expected integers \[2\]"),
        ({"boxes": None}, {}, "found: boxes are needed and not given"),
        ({"boxes": [[0.0, 0, 1]] * 2}, {}, r"found: boxes: expected shape \(2, 4\), got \(2, 3\)"),
        ({"boxes": [[0.0, 0, 1, np.nan]] * 2}, {}, "found: boxes: there is a value that is not finite"),
        ({"boxes": [[0.0, 0, 1, 1]]}, {}, r"found: boxes: expected shape \(2, 4\), got \(1, 4\)"),
        ({}, {"by": "giou"}, "by: expected iou or oks, got 'giou'"),
        ({}, {"by": "oks"}, "truth: keypoints are needed and not given"),
    ],
)
def test_what_is_no_track(changes: dict[str, Any], options: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"frames": [0, 0], "track_ids": [0, 1], "boxes": boxes_at(0, 50)}
    with pytest.raises(ValueError, match=said):
        score_tracks(Tracks(**values), Tracks(**values | changes), **options)


@pytest.mark.parametrize("sigmas", [None, [0.1, 0.1], [0.1, 0.1, -1.0]])
def test_sigmas_are_one_a_keypoint(sigmas: Any) -> None:
    poses = Tracks(frames=[0], track_ids=[0], keypoints=np.ones((1, 3, 2)), areas=[1.0])
    with pytest.raises(ValueError, match="sigmas: expected 3 numbers above 0"):
        score_tracks(poses, poses, by="oks", sigmas=sigmas)


# Beside a plain version


def best_pairs(costs: np.ndarray) -> tuple[int, float]:
    """How many pairs there can be, and the least sum of so many."""
    best = (0, 0.0)
    wide = costs if costs.shape[0] <= costs.shape[1] else costs.T
    for order in permutations(range(wide.shape[1]), wide.shape[0]):
        chosen = wide[np.arange(len(order)), list(order)]
        chosen = chosen[np.isfinite(chosen)]
        if (-len(chosen), chosen.sum()) < (-best[0], best[1]):
            best = (len(chosen), chosen.sum())
    return best


def test_most_pairs_of_the_least_sum() -> None:
    rng = np.random.default_rng(0)
    for trial in range(300):
        costs = rng.uniform(0, 1, rng.integers(0, 6, 2)) if trial % 2 else rng.integers(0, 3, (4, 4)).astype(float)
        costs[rng.uniform(size=costs.shape) < 0.4] = np.inf
        pairs = most_pairs(costs)
        assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)
        chosen = costs[pairs[:, 0], pairs[:, 1]]
        count, least = best_pairs(costs)
        assert (len(pairs), chosen.sum()) == (count, pytest.approx(least))


class PlainClear:
    """CLEAR MOT for one kind of things, a frame at a time."""

    def __init__(self) -> None:
        self.track: dict[int, int] = {}
        self.lost: set[int] = set()
        self.counts = {"matched": 0, "switches": 0, "fragmentations": 0, "distance": 0.0}

    def update(self, truth: list[int], found: list[int], distance: np.ndarray) -> None:
        pairs: dict[int, int] = {}
        for i, thing in enumerate(truth):
            j = found.index(self.track[thing]) if self.track.get(thing) in found else None
            if j is not None and j not in pairs.values() and np.isfinite(distance[i, j]):
                pairs[i] = j
        left = distance.copy()
        left[list(pairs)] = np.inf
        left[:, list(pairs.values())] = np.inf
        count, least = best_pairs(left)
        for order in permutations(range(len(found)), min(count, len(found))):
            rows = [
                rows for rows in permutations(range(len(truth)), count) if np.isclose(left[rows, order].sum(), least)
            ]
            if rows:
                pairs |= dict(zip(rows[0], order, strict=True))
                break
        for i, thing in enumerate(truth):
            if i in pairs:
                track = found[pairs[i]]
                self.counts["matched"] += 1
                self.counts["distance"] += distance[i, pairs[i]]
                self.counts["switches"] += self.track.get(thing, track) != track
                self.counts["fragmentations"] += thing in self.lost
                self.lost.discard(thing)
                self.track[thing] = track
            elif thing in self.track:
                self.lost.add(thing)


def test_kinds_side_by_side_are_each_as_alone() -> None:
    rng = np.random.default_rng(3)
    kinds, things, tracks = 4, 4, 5
    matcher, plain = ClearMatcher(kinds, things, tracks), [PlainClear() for _ in range(kinds)]
    for _ in range(40):
        truth_ids = rng.permutation(things)[: rng.integers(0, things + 1)]
        found_ids = rng.permutation(tracks)[: rng.integers(0, tracks)]
        there = rng.uniform(size=(kinds, len(truth_ids))) < 0.8
        said = rng.uniform(size=(kinds, len(found_ids))) < 0.8
        distance = rng.uniform(0, 1, (kinds, len(truth_ids), len(found_ids)))
        distance[(distance > 0.6) | ~there[:, :, None] | ~said[:, None]] = np.inf
        matcher.update(truth_ids, found_ids, distance, there, said)
        for kind, one in enumerate(plain):
            part = distance[kind][there[kind]][:, said[kind]]
            one.update(truth_ids[there[kind]].tolist(), found_ids[said[kind]].tolist(), part)
    assert sum(one.counts["switches"] for one in plain) > 20
    assert sum(one.counts["fragmentations"] for one in plain) > 20
    for name in plain[0].counts:
        assert getattr(matcher.counts, name).tolist() == pytest.approx([one.counts[name] for one in plain]), name


def test_identities_are_assigned_exactly() -> None:
    """Of all ways to give each true track one found track, the one with the most right appearances."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        frames = np.repeat(np.arange(12), 4)
        who, track = np.tile(np.arange(4), 12), np.concatenate([rng.permutation(5)[:4] for _ in range(12)])
        boxes = boxes_at(*(50.0 * who))
        scores = score_tracks(
            Tracks(frames=frames, track_ids=who, boxes=boxes), Tracks(frames=frames, track_ids=track, boxes=boxes)
        )
        together = np.array([[((who == i) & (track == j)).sum() for j in range(5)] for i in range(4)])
        assert scores.identified == max(together[range(4), list(order)].sum() for order in permutations(range(5), 4))
