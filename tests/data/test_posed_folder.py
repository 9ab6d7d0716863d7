"""Does a folder of posed images come back as it was written, lazily, and is everything wrong with it named?"""

import operator
import pickle
import re
import shutil
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d.data import Room, read_posed_folder, write_room

SIZE = (24, 32)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """One folder of each layout, not to be changed."""
    folders = {}
    for layout in ("7scenes", "scannet"):
        folders[layout] = tmp_path_factory.mktemp(layout)
        write_room(folders[layout], frames=11, seed=3, points=500, layout=layout, size=SIZE)
    return folders


@pytest.fixture(params=["7scenes", "scannet"])
def layout(request):
    return request.param


@pytest.fixture
def folder(written, layout, tmp_path):
    """A copy of it, to be broken; the parent has no intrinsics."""
    return shutil.copytree(written[layout], tmp_path / "scene")


def of_frame(folder, i, kind):
    """The file of a frame, in either layout."""
    found = [*folder.glob(f"frame-{i:06d}.{kind}.*"), *folder.glob(f"{kind}/{i}.*")]
    assert len(found) == 1
    return found[0]


def says(file, text):
    """The file and then the text, as a pattern."""
    return re.escape(str(file)) + ".*" + text


def test_depth_and_labels_come_back_exactly(written, layout):
    scene = read_posed_folder(written[layout])
    camera = Room(3).path(11, 3).resized(SIZE)
    for i, frame in enumerate(scene.frames):
        depth = Room(3).depth(camera[i])[0]
        assert frame.depth().dtype == torch.uint16
        assert torch.equal(frame.depth().to(torch.float64), (1000 * depth).round())
        labels = Room(3).render(frame.color_camera)[1][0]
        assert frame.semantic().dtype == torch.int64
        assert torch.equal(frame.semantic(), labels)


def test_poses_and_intrinsics_come_back_to_the_bit(written, layout):
    scene = read_posed_folder(written[layout])
    camera = Room(3).path(11, 3).resized(SIZE)
    assert len(scene.frames) == 11
    assert scene.frames.skipped == ()
    for i, frame in enumerate(scene.frames):
        assert len(frame.camera) == len(frame.color_camera) == 1
        assert frame.camera.dtype == torch.float64
        assert frame.camera.size == SIZE
        assert torch.equal(frame.camera.world_from_camera, camera[i].world_from_camera)
        assert torch.equal(frame.color_camera.world_from_camera, camera[i].world_from_camera)
        assert torch.equal(frame.camera.intrinsics, camera[i].intrinsics)
        assert frame.depth_scale == 1000.0


def test_colour_comes_back_exactly_from_png_and_nearly_from_jpeg(written):
    frames = {layout: read_posed_folder(written[layout]).frames[4] for layout in written}
    exact = frames["7scenes"]
    assert torch.equal(exact.color(), Room(3).render(exact.camera)[2][0])
    lossy = frames["scannet"]
    assert lossy.color().dtype == torch.uint8
    apart = lossy.color().float() - Room(3).render(lossy.color_camera)[2][0].float()
    assert apart.abs().mean() < 8


def test_scannet_colour_has_its_own_size_and_intrinsics(written):
    frame = read_posed_folder(written["scannet"]).frames[0]
    assert frame.color_camera.size == (56, 80)
    wanted = Room(3).path(11, 3).resized(SIZE).resized((56, 80))
    assert torch.equal(frame.color_camera.intrinsics, wanted[0].intrinsics)
    assert frame.color().shape == (56, 80, 3)


def test_frames_are_in_numeric_order(written):
    assert [f.name for f in read_posed_folder(written["scannet"]).frames] == [str(i) for i in range(11)]
    assert [f.name for f in read_posed_folder(written["7scenes"]).frames] == [f"frame-{i:06d}" for i in range(11)]


def test_the_cloud_comes_back(written, layout):
    scene = read_posed_folder(written[layout])
    points, labels, colors = Room(3).points(500, 3)
    assert torch.equal(scene.points, points.float())
    assert torch.equal(scene.cloud.semantic, labels)
    assert torch.equal(scene.cloud.colors, colors)
    assert scene.name == written[layout].name


def test_a_cloud_under_another_name_is_not_read(folder):
    (folder / "points.ply").rename(folder / "fragment.ply")
    scene = read_posed_folder(folder)
    assert scene.cloud is None
    assert scene.points is None


def test_depth_scale_is_handed_on_and_must_be_positive(written):
    assert read_posed_folder(written["7scenes"], depth=5000).frames[0].depth_scale == 5000
    wrong = dict.fromkeys((0, -1.0, float("inf")), "positive and finite") | {float("nan"): "a number"}
    for scale, wanted in wrong.items():
        with pytest.raises(ValueError, match=f"depth_scale must be {wanted}, got"):
            read_posed_folder(written["7scenes"], depth=scale)


def test_noise_grows_with_the_square_of_depth(tmp_path):
    write_room(tmp_path, frames=1, noise=0.003, points=0, size=(120, 160))
    frame = read_posed_folder(tmp_path).frames[0]
    z = Room().depth(frame.camera)[0]
    error = (frame.depth().to(torch.float64) / 1000 - z) / z**2
    assert abs(error.std().item() - 0.003) < 1e-4
    assert abs(error.mean().item()) < 1e-4
    assert read_posed_folder(tmp_path).points is None


def test_an_unknown_layout_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match='layout must be "7scenes" or "scannet", got \'kitti\''):
        write_room(tmp_path, layout="kitti")


def test_a_room_is_not_written_over_another_scene(folder):
    with pytest.raises(FileExistsError, match=says(folder, "must be empty or not there yet")):
        write_room(folder, frames=1, size=SIZE)
    assert len(read_posed_folder(folder).frames) == 11


def test_a_folder_without_labels_has_none(folder, layout):
    for i in range(11):
        of_frame(folder, i, "label").unlink()
    assert read_posed_folder(folder).frames[0].semantic() is None


def test_a_stored_label_of_0_is_no_label(folder):
    path = of_frame(folder, 2, "label")
    stored = np.array(Image.open(path)).astype(np.uint16)
    stored[3, 4], stored[3, 5] = 0, 300
    Image.fromarray(stored).save(path)
    labels = read_posed_folder(folder).frames[2].semantic()
    assert labels[3, 4:6].tolist() == [-1, 300]


def test_frames_survive_pickling_and_share_no_memory_for_it(written, layout):
    frame = read_posed_folder(written[layout]).frames[5]
    copy = pickle.loads(bytes(ForkingPickler.dumps(frame)))
    assert not frame.camera.world_from_camera.is_shared()  # each shared tensor would hold a file descriptor
    assert copy.name == frame.name
    assert torch.equal(copy.camera.world_from_camera, frame.camera.world_from_camera)
    assert torch.equal(copy.color_camera.intrinsics, frame.color_camera.intrinsics)
    assert copy.color_camera.size == frame.color_camera.size
    assert torch.equal(copy.depth(), frame.depth())


def test_spawned_workers_can_decode_frames(written):
    frames = read_posed_folder(written["7scenes"]).frames[:3]
    depth = operator.methodcaller("depth")  # a worker can import it wherever the tests lie
    loader = torch.utils.data.DataLoader(
        frames, batch_size=None, num_workers=1, multiprocessing_context="spawn", collate_fn=depth
    )
    for decoded, frame in zip(loader, frames, strict=True):
        assert torch.equal(decoded, frame.depth())


def test_intrinsics_may_lie_one_folder_up_and_have_another_name(written, tmp_path):
    folder = shutil.copytree(written["7scenes"], tmp_path / "kitchen" / "seq-01")
    wanted = read_posed_folder(folder).frames[0].camera.intrinsics
    (folder / "camera-intrinsics.txt").rename(folder / "depth-intrinsics-640.txt")
    assert torch.equal(read_posed_folder(folder).frames[0].camera.intrinsics, wanted)
    (folder / "depth-intrinsics-640.txt").rename(folder.parent / "camera-intrinsics.txt")
    assert torch.equal(read_posed_folder(folder).frames[0].camera.intrinsics, wanted)


def test_of_two_colour_images_the_png_is_read(written, tmp_path):
    folder = shutil.copytree(written["7scenes"], tmp_path / "scene")
    for ending in ("jpg", "jpeg"):
        Image.new("RGB", (32, 24)).save(folder / f"frame-000000.color.{ending}")
    assert read_posed_folder(folder).frames[0].color().any()


# What is wrong is said, and where.


def test_no_folder_and_no_frames_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=says(tmp_path / "none", "must be a folder")):
        read_posed_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=says(tmp_path, "no frames: looked for frame-NNNNNN.depth.png and for")):
        read_posed_folder(tmp_path)


@pytest.mark.parametrize("kind", ["pose", "depth", "color"])
def test_a_missing_file_is_named_with_its_frame(folder, kind):
    path = of_frame(folder, 4, kind)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=says(path, f"has no {kind} file")):
        read_posed_folder(folder)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", r"a pose of 4x4 numbers was wanted, got rows of \[4, 4, 4\] numbers"),
        ("", r"a pose of 4x4 numbers was wanted, got an empty file"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 one\n", "a pose of 4x4 numbers was wanted, got text that is no number"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n1 0 0 1\n", r"the last row of a pose must be 0 0 0 1, got \[1.0, 0.0, 0.0, 1.0\]"),
        ("1 0 0 0\n0 0 0 0\n0 0 1 0\n0 0 0 1\n", "must be invertible, its determinant is 0"),
    ],
)
def test_a_pose_that_is_none_is_an_error(folder, text, wanted):
    path = of_frame(folder, 7, "pose")
    path.write_text(text)
    with pytest.raises(ValueError, match=says(path, wanted)):
        read_posed_folder(folder)


@pytest.mark.parametrize("lost", ["-inf", "nan"])
def test_a_frame_with_a_pose_that_is_not_finite_is_left_out_and_said(folder, lost):
    names = [f.name for f in read_posed_folder(folder).frames]
    for i in (0, 10):
        of_frame(folder, i, "pose").write_text("\n".join([" ".join([lost] * 4)] * 4))
    with pytest.warns(UserWarning, match=f"2 of 11 frames are left out.*{names[0]}, {names[10]}"):
        scene = read_posed_folder(folder)
    assert [f.name for f in scene.frames] == names[1:10]
    assert scene.frames.skipped == (f"{names[0]}: pose is not finite", f"{names[10]}: pose is not finite")
    assert torch.equal(
        scene.frames[0].camera.world_from_camera, Room(3).path(11, 3)[1].world_from_camera
    )  # and keep their own poses


def test_a_folder_whose_poses_are_all_lost_is_an_error(folder):
    for i in range(11):
        of_frame(folder, i, "pose").write_text(" ".join(["-inf"] * 16))
    with pytest.raises(ValueError, match=says(folder, "none of the 11 frames has a finite pose")):
        read_posed_folder(folder)


@pytest.mark.parametrize("kind", ["depth", "color", "label"])
def test_a_truncated_image_opens_and_is_named_when_it_is_decoded(folder, kind):
    path = of_frame(folder, 1, kind)
    path.write_bytes(path.read_bytes()[:-60])
    frame = read_posed_folder(folder).frames[1]
    with pytest.raises(OSError, match=says(path, "cannot be decoded, is it truncated")):
        {"depth": frame.depth, "color": frame.color, "label": frame.semantic}[kind]()


@pytest.mark.parametrize("kind", ["depth", "color", "label"])
def test_an_image_cut_off_within_its_header_is_named_at_once(folder, kind):
    path = of_frame(folder, 1, kind)
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(OSError, match=says(path, "cannot be opened as an image")):
        read_posed_folder(folder)


def test_every_cut_of_a_depth_image_is_an_error_or_does_no_harm(written, tmp_path):
    folder = shutil.copytree(written["7scenes"], tmp_path / "scene")
    frame = read_posed_folder(folder).frames[0]
    whole, path = frame.depth(), frame.read_depth.path
    data, harmless = path.read_bytes(), 0
    for n in range(len(data)):
        path.write_bytes(data[:n])
        try:
            assert torch.equal(frame.depth(), whole)
            harmless += 1
        except OSError:
            continue
    assert harmless < 40  # the checksums behind the last pixel


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.zeros((*SIZE, 3), np.uint8), "RGB"),
        (np.zeros(SIZE, np.uint8), "L"),
        (np.zeros((*SIZE, 4), np.uint8), "RGBA"),
    ],
)
def test_depth_that_is_not_16_bit_of_one_channel_is_an_error(folder, pixels, mode):
    path = of_frame(folder, 3, "depth")
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=says(path, f"must be a 16-bit image of one channel, got Pillow mode {mode}")):
        read_posed_folder(folder)


@pytest.mark.parametrize("kind", ["depth", "color"])
def test_an_image_of_another_size_than_the_first_frames_is_an_error(folder, kind):
    path = of_frame(folder, 3, kind)
    Image.fromarray(np.zeros((20, 30), np.uint16 if kind == "depth" else np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=says(path, r"must have size \(.*\) \(H, W\) as in the first frame, got \(20, 30\)")
    ):
        read_posed_folder(folder)


def test_labels_of_another_size_than_colour_are_an_error(folder):
    path = of_frame(folder, 3, "label")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)
    with pytest.raises(ValueError, match=says(path, r"must have the size of the colour image, .* got \(20, 30\)")):
        read_posed_folder(folder)


def test_labels_of_several_channels_are_an_error(folder):
    path = of_frame(folder, 3, "label")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=says(path, "must be an 8 or 16-bit image of one channel, got Pillow mode RGB")
    ):
        read_posed_folder(folder)


def test_an_image_that_changes_its_size_after_opening_is_an_error(folder):
    frame = read_posed_folder(folder).frames[0]
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(frame.read_depth.path)
    with pytest.raises(
        ValueError, match=says(frame.read_depth.path, r"must have size \(24, 32\) \(H, W\), got \(20, 30\)")
    ):
        frame.depth()


def test_colour_and_depth_that_share_intrinsics_must_share_their_size(written, tmp_path):
    folder = shutil.copytree(written["7scenes"], tmp_path / "scene")
    for path in folder.glob("*.color.png"):
        Image.new("RGB", (64, 48)).save(path)
    first = folder / "frame-000000.color.png"
    with pytest.raises(
        ValueError, match=says(first, r"must have the size of depth, \(24, 32\) \(H, W\), got \(48, 64\)")
    ):
        read_posed_folder(folder)


def test_missing_intrinsics_say_what_was_looked_for(folder, layout):
    for path in folder.rglob("*intrinsic*.txt"):
        path.unlink()
    wanted = (
        "intrinsic_depth.txt.*there is no such file"
        if layout == "scannet"
        else r"camera-intrinsics.txt and \*intrinsics\*.txt"
    )
    with pytest.raises(FileNotFoundError, match=says(folder, wanted)):
        read_posed_folder(folder)


def test_two_intrinsics_files_without_the_known_name_are_an_error(written, tmp_path):
    folder = shutil.copytree(written["7scenes"], tmp_path / "scene")
    shutil.copy(folder / "camera-intrinsics.txt", folder / "color-intrinsics.txt")
    assert len(read_posed_folder(folder).frames) == 11
    (folder / "camera-intrinsics.txt").rename(folder / "depth-intrinsics.txt")
    with pytest.raises(ValueError, match=says(folder, "got color-intrinsics.txt, depth-intrinsics.txt")):
        read_posed_folder(folder)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500 0 16\n0 500 12\n", r"a 3x3 or 4x4 matrix of intrinsics was wanted, got rows of \[3, 3\] numbers"),
        ("500 1 16\n0 500 12\n0 0 1\n", "must have no skew"),
        ("500 0 16\n0 0 12\n0 0 1\n", "focal lengths other than 0"),
        ("500 0 16\n0 nan 12\n0 0 1\n", "must be finite"),
    ],
)
def test_intrinsics_that_are_none_are_named(folder, layout, text, wanted):
    path = folder / ("intrinsic/intrinsic_color.txt" if layout == "scannet" else "camera-intrinsics.txt")
    path.write_text(text)
    with pytest.raises(ValueError, match=says(path, wanted)):
        read_posed_folder(folder)


def test_both_layouts_in_one_folder_are_an_error(written, tmp_path):
    folder = shutil.copytree(written["7scenes"], tmp_path / "scene")
    shutil.copytree(written["scannet"], folder, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=says(folder, "must have one layout")):
        read_posed_folder(folder)


def test_a_broken_cloud_is_named(folder):
    (folder / "points.ply").write_bytes((folder / "points.ply").read_bytes()[:-1])
    with pytest.raises(ValueError, match=says(folder / "points.ply", "500 vertices of 17 bytes were wanted")):
        _ = read_posed_folder(folder).cloud


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (b"property uchar red", b"property ushort red", "red, green and blue must be uchar, got uint16"),
        (b"property ushort label", b"property float label", "label must be an integer property, got float32"),
    ],
)
def test_a_cloud_with_other_kinds_of_properties_is_named(folder, old, new, wanted):
    data = (folder / "points.ply").read_bytes()
    assert old in data
    (folder / "points.ply").write_bytes(data.replace(old, new) + bytes(2 * 500))  # two more bytes a vertex
    with pytest.raises(ValueError, match=says(folder / "points.ply", wanted)):
        _ = read_posed_folder(folder).cloud
