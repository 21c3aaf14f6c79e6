"""Files made to do harm are refused by name, and nothing in them is run."""

import builtins
import os
import pickle
import re
import threading
import time
import zipfile

import pytest
import torch
from torch import nn

from isometry.errors import LoadError, RefusedError
from isometry.load import load_array, load_model
from isometry.load.names import Sort, sort_of
from isometry.load.opcodes import MAX_STEPS
from tests.load.attacks import ATTACKS
from tests.load.hostile import Calls, members, opened, rewritten, row, words, write_archive

pytestmark = pytest.mark.usefixtures("canary")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_is_refused_in_one_line_with_little_memory_and_time(attack, tmp_path):
    outcome, ended = opened(attack, attack.ours, tmp_path, memory=1 << 30)
    assert outcome.startswith(("LoadError: ", "RefusedError: ")), outcome
    assert ended.text.isprintable()
    assert ended.seconds < 20
    assert ended.growth < 1 << 29


def test_an_attack_that_runs_would_be_noticed(tmp_path):
    shell = ATTACKS[0]
    outcome, _ = opened(shell, lambda path: torch.load(path, weights_only=False), tmp_path)
    assert outcome == "**the payload ran**"


def test_the_table_in_the_docs_says_what_is_said(root, tmp_path):
    page = (root / "docs" / "model-files.md").read_text(encoding="utf-8")
    for attack in ATTACKS:
        outcome, _ = opened(attack, attack.ours, tmp_path)
        assert row(attack.name, "", words(outcome)).partition("|  |")[2] in page, attack.name
        assert f"| {attack.name} |" in page


def _nested_lists(depth):
    return b"]" * depth + b"a" * (depth - 1)


def _text(word):
    return pickle.BINUNICODE + len(word).to_bytes(4, "little") + word.encode()


def test_a_shell_command_is_refused_and_trust_is_not_offered(save, canary):
    path = save(Calls(os.system, canary))
    with pytest.raises(
        RefusedError, match=r"refused: (posix|nt)\.system is code, not a model"
    ) as e:
        load_model(path)
    assert "trust" not in str(e.value)


def test_the_canary_would_have_caught_it(save, canary, tmp_path):
    path = save(Calls(os.system, canary))
    torch.load(path, weights_only=False)
    assert (tmp_path / "canary").exists()
    (tmp_path / "canary").unlink()


@pytest.mark.parametrize("function", [eval, exec, builtins.compile, builtins.__import__])
def test_builtins_that_run_text_are_refused(function, save, canary):
    path = save(Calls(function, f"__import__('os').system({canary!r})"))
    with pytest.raises(RefusedError, match=rf"builtins\.{function.__name__} is code"):
        load_model(path)


def test_builtins_reached_by_getattr_are_refused(save):
    path = save(Calls(getattr, Calls(getattr, nn.Linear(1, 1), "forward"), "__globals__"))
    with pytest.raises(RefusedError, match=r"builtins\.getattr is code"):
        load_model(path)


def test_code_beside_honest_weights_is_refused_too(save, canary):
    path = save({"state_dict": nn.Linear(2, 2).state_dict(), "epoch": Calls(os.system, canary)})
    with pytest.raises(RefusedError, match=r"system is code"):
        load_model(path, model=nn.Linear(2, 2))
    with pytest.raises(RefusedError, match=r"system is code"):
        load_array(path)


def test_code_in_a_pickle_that_then_breaks_off_is_still_named(tmp_path):
    path = write_archive(tmp_path / "model.pt", b"\x80\x02cos\nsystem\n\xff")
    with pytest.raises(RefusedError, match=r"os\.system is code"):
        load_model(path)


def test_an_indirect_call_that_no_list_knows_is_refused_all_the_same(save, tmp_path, canary):
    pickled = b"\x80\x02csomewhere.unknown\nrun\n" + _text(canary) + b"\x85R."
    path = write_archive(tmp_path / "model.pt", pickled)
    with pytest.raises(RefusedError, match=r"holds an object of somewhere\.unknown\.run"):
        load_model(path)


def test_nothing_named_in_a_file_is_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write_archive(tmp_path / "model.pt", b"\x80\x02cevil_module\nNet\n)\x81.")
    with pytest.raises(RefusedError):
        load_model(path)


def test_a_constructor_call_is_refused_before_it_takes_memory(save):
    model = nn.Sequential()
    model._modules["0"] = Calls(nn.Linear, 60000, 20000)
    path = save(model)
    before = time.perf_counter()
    with pytest.raises(RefusedError, match=r"would call torch\.nn\.modules\.linear\.Linear"):
        load_model(path)
    assert time.perf_counter() - before < 2


def test_a_bare_constructor_call_is_refused(save):
    with pytest.raises(RefusedError, match="no torch module"):
        load_model(save(Calls(nn.Linear, 60000, 20000)))


@pytest.mark.parametrize("name", [torch.FloatTensor, torch.UntypedStorage, bytearray])
def test_a_call_that_only_takes_memory_is_refused(name, save):
    model = nn.Linear(2, 2)
    model.note = Calls(name, 1 << 40)
    with pytest.raises(
        RefusedError, match=r"model\.note is not a plain value|not torch\.nn's: torch\.Float"
    ):
        load_model(save(model))


@pytest.mark.parametrize("value", ["text", nn.functional.relu, 3])
@pytest.mark.parametrize("key", ["forward", "_call_impl", "__call__", "extra_repr", "half"])
def test_an_attribute_that_would_replace_a_method_is_refused(key, value, save):
    model = nn.Linear(2, 2)
    model.__dict__[key] = value
    with pytest.raises(RefusedError, match=f"attribute '{key}' of model would replace a method"):
        load_model(save(nn.Sequential(model)[0]))


@pytest.mark.parametrize("key", ["__class__", "__dict__", "__constants__", "_version"])
def test_an_attribute_of_the_class_cannot_be_replaced(key, save, tmp_path):
    model = nn.BatchNorm1d(2)
    model.zzzz = "text"
    path = rewritten(tmp_path / "m.pt", model, lambda data: data.replace(_text("zzzz"), _text(key)))
    with pytest.raises(RefusedError, match=f"attribute '{key}' of model would replace"):
        load_model(path)


@pytest.mark.parametrize("group", ["_parameters", "_buffers", "_modules"])
@pytest.mark.parametrize("key", ["forward", "training", "_parameters", "", "a.b"])
def test_weights_and_children_cannot_take_a_name_that_means_something(group, key, save):
    model = nn.Linear(2, 2)
    model.__dict__[group][key] = None
    with pytest.raises(RefusedError, match=r"would replace a method|holds something named"):
        load_model(save(model))


def test_a_function_anywhere_but_as_an_activation_is_refused(save):
    model = nn.Linear(2, 2)
    model.activation = nn.functional.relu
    with pytest.raises(RefusedError, match=r"would call torch\.nn\.functional\.relu"):
        load_model(save(model))


@pytest.mark.parametrize(
    "register",
    ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"],
)
def test_hooks_are_refused(register, save):
    model = nn.Sequential(nn.Linear(2, 2))
    getattr(model[0], register)(nn.functional.relu)
    with pytest.raises(RefusedError, match=r"model\.0 carries hooks in _.*_hooks"):
        load_model(save(model))


def test_removed_hooks_do_not_matter(save):
    model = nn.Linear(2, 2)
    model.register_full_backward_hook(nn.functional.relu).remove()
    assert torch.equal(load_model(save(model)).module.weight, model.weight)


def test_hooks_of_a_tensor_are_refused(tmp_path):
    # The empty OrderedDict of hooks that ends a tensor gets an entry.
    path = rewritten(
        tmp_path / "m.pt",
        {"w": torch.ones(2)},
        lambda data: data.replace(b")R", b")R" + _text("k") + b"\x88s"),
    )
    with pytest.raises(RefusedError, match="carries hooks"):
        load_model(path, model=nn.Identity())


def test_a_module_called_through_rebuild_from_type_is_refused(save):
    call = Calls(torch._tensor._rebuild_from_type_v2, nn.Linear(2, 2), torch.Tensor, (), {})
    with pytest.raises(RefusedError, match="no plain dense tensor"):
        load_model(save({"w": call}), model=nn.Linear(2, 2))


def test_a_terabyte_on_four_bytes_is_refused(save):
    path = save({"weight": torch.ones(1).expand(10**12)})
    with pytest.raises(RefusedError, match=r"weight claims 4\.0 TB on 4 bytes"):
        load_model(path, model=nn.Linear(2, 2))
    with pytest.raises(RefusedError, match=r"claims 4\.0 TB"):
        load_array(path)


def test_a_view_beyond_its_storage_is_refused(tmp_path):
    path = rewritten(
        tmp_path / "m.pt",
        {"w": torch.ones(7)},
        # offset 0, size (7,): the offset comes first in the pickle
        lambda data: data.replace(b"QK\x00K\x07", b"QK\x03K\x07"),
    )
    with pytest.raises(RefusedError, match="w reaches beyond its 28 bytes"):
        load_model(path, model=nn.Identity())


def test_a_negative_stride_is_refused(tmp_path):
    path = rewritten(
        tmp_path / "m.pt",
        {"w": torch.ones(7)},
        lambda data: re.sub(rb"(K\x07\x85q.)K\x01", lambda m: m[1] + b"J" + b"\xff" * 4, data),
    )
    with pytest.raises(RefusedError, match="size or stride that makes no sense"):
        load_model(path, model=nn.Identity())


def test_a_record_of_another_size_than_claimed_is_damaged(tmp_path):
    parts = members({"w": torch.ones(7)})
    pickled = next(data for name, data in parts.items() if name.endswith("data.pkl"))
    path = write_archive(tmp_path / "m.pt", pickled, {"0": b"\0" * 4})
    with pytest.raises(LoadError, match=r"w wants 28 bytes in archive/data/0, which has 4 bytes"):
        load_model(path, model=nn.Identity())


def test_a_deflated_archive_is_refused(tmp_path):
    path = write_archive(
        tmp_path / "m.pt", b"\x80\x02N.", {"0": bytes(3_000_000)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(RefusedError, match=r"compressed members, which torch\.save never writes"):
        load_model(path)


def test_fifty_thousand_nested_lists_are_refused(tmp_path):
    path = write_archive(tmp_path / "m.pt", b"\x80\x02" + _nested_lists(50_000) + b".")
    with pytest.raises(LoadError, match="holds a list, no model"):
        load_model(path)


def test_nested_lists_in_an_attribute_are_refused(tmp_path):
    model = nn.Linear(2, 2)
    model.note = "NEST"
    path = rewritten(
        tmp_path / "m.pt", model, lambda data: data.replace(_text("NEST"), _nested_lists(50_000))
    )
    with pytest.raises(RefusedError, match=r"model\.note is nested deeper"):
        load_model(path)


def test_deeply_nested_tuples_as_a_key_do_not_overflow_the_stack(tmp_path):
    pickled = b"\x80\x02})" + b"\x85" * 200_000 + b"Ns."
    with pytest.raises(LoadError, match="dict without weights"):
        load_model(write_archive(tmp_path / "m.pt", pickled))


def test_a_module_that_contains_itself_is_refused(save):
    model = nn.Sequential(nn.Linear(2, 2))
    model._modules["1"] = model
    with pytest.raises(RefusedError, match=r"model\.1 contains itself"):
        load_model(save(model))


def test_a_dict_that_contains_itself_is_no_model(save):
    table = {}
    table["state_dict"] = table
    with pytest.raises(LoadError, match="dict without weights"):
        load_model(save(table))


def test_an_attribute_that_contains_itself_is_refused(save):
    model = nn.Linear(2, 2)
    model.note = []
    model.note.append(model.note)
    with pytest.raises(RefusedError, match="nested deeper"):
        load_model(save(model))


def test_modules_that_double_at_each_level_are_refused(save):
    model = nn.Linear(2, 2)
    for _ in range(40):
        model = nn.Sequential(model, model)
    path = save(model)
    with pytest.raises(RefusedError, match="repeats its modules without end"):
        load_model(path)
    with pytest.raises(RefusedError, match="without end"):
        load_model(path, model=nn.Linear(2, 2))


def test_modules_nested_too_deep_are_refused(save):
    model = nn.Linear(2, 2)
    for _ in range(80):
        model = nn.Sequential(model)
    with pytest.raises(RefusedError, match="nested deeper than 64"):
        load_model(save(model))


def test_lists_that_double_at_each_level_are_refused(save):
    model = nn.Linear(2, 2)
    value = [1] * 10
    for _ in range(8):
        value = [value] * 10
    model.note = value
    with pytest.raises(RefusedError, match="more than 1000000 values"):
        load_model(save(model))


def test_protocol_four_is_refused_by_name(save, canary):
    for value in (nn.Linear(2, 2), Calls(os.system, canary)):
        with pytest.raises(LoadError, match=r"protocol 4, where torch\.save writes 2"):
            load_model(save(value, pickle_protocol=4))


def test_a_pickle_of_endless_steps_stops(tmp_path):
    path = write_archive(tmp_path / "m.pt", b"\x80\x02" + b"]" * (MAX_STEPS + 9) + b".")
    with pytest.raises(LoadError, match="more than 2000000 steps"):
        load_model(path)


def test_a_pickle_of_endless_names_stops(tmp_path):
    asked = b"".join(b"cm\nx%d\n" % n for n in range(10_002))
    with pytest.raises(LoadError, match="more than 10000 names"):
        load_model(write_archive(tmp_path / "m.pt", b"\x80\x02" + asked + b"."))


def test_a_state_set_twice_is_refused(tmp_path):
    model = nn.Linear(2, 2)
    path = rewritten(tmp_path / "m.pt", model, lambda data: data[:-1] + b"}b.")
    with pytest.raises(LoadError, match="state of one object twice"):
        load_model(path)


def test_a_storage_outside_the_archive_is_not_looked_for(tmp_path):
    path = rewritten(
        tmp_path / "m.pt",
        {"w": torch.ones(7)},
        lambda data: data.replace(_text("0"), _text("../../../etc/passwd")),
    )
    with pytest.raises(LoadError, match=r"not there"):
        load_model(path, model=nn.Identity())


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data.pkl", b"\x80\x02}.")
    with pytest.raises(RefusedError, match=r"two members named a/data\.pkl"):
        load_model(path)


def test_members_in_two_folders_are_refused(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr("b/other", b"")
    with pytest.raises(RefusedError, match="2 top folders"):
        load_model(path)


def test_overlapping_members_are_refused(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr("a/other", b"xy")
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = (4).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="overlapping members"):
        load_model(path)


def test_too_many_members_are_refused_before_they_are_listed(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    # A 64-bit end record that claims a million members.
    wide = b"PK\6\6" + bytes(20) + (10**6).to_bytes(8, "little") * 2 + bytes(16)
    path.write_bytes(data[:end] + wide + b"PK\6\7" + bytes(16) + data[end:])
    with pytest.raises(RefusedError, match="lists 1000000 members"):
        load_model(path)


def test_one_flipped_byte_of_a_weight_is_noticed(save):
    path = save(nn.Linear(64, 64))
    data = bytearray(path.read_bytes())
    parts = members(nn.Linear(64, 64))
    assert len(parts) > 3
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
    data[info.header_offset + 4096] ^= 1
    path.write_bytes(data)
    with pytest.raises(LoadError, match=r"checksum mismatch in .*/data/0"):
        load_model(path)


def test_names_from_a_file_cannot_write_to_the_terminal(tmp_path):
    pickled = b"\x80\x02cmine\x1b[31m\nNet\xe2\x80\xae\n)\x81."
    with pytest.raises(RefusedError) as error:
        load_model(write_archive(tmp_path / "m.pt", pickled))
    assert str(error.value).isprintable()
    assert r"\x1b" in str(error.value)


def test_a_long_list_of_classes_is_cut_short(tmp_path):
    asked = b"".join(b"cmine\nNet%d\n" % n for n in range(500))
    model = nn.Linear(2, 2)
    model.note = "HERE"
    path = rewritten(
        tmp_path / "m.pt", model, lambda data: data.replace(_text("HERE"), b"(" + asked + b"t")
    )
    with pytest.raises(RefusedError, match=r"… and 488 more; pass --model") as error:
        load_model(path)
    assert len(str(error.value)) < 600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_named_pipe_in_place_of_a_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "model.pt")
    with pytest.raises(LoadError, match=r"model\.pt is a named pipe, not a file"):
        load_model(tmp_path / "model.pt")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="POSIX only")
def test_a_device_is_not_read():
    with pytest.raises(LoadError, match="/dev/zero is a device, not a file"):
        load_model("/dev/zero")


def test_a_file_that_changes_while_it_is_read_is_noticed(save, monkeypatch):
    path = save(nn.Linear(2, 2))
    from isometry.load import model

    read = model._torch

    def slow(source, given):
        parts = read(source, given)
        path.write_bytes(path.read_bytes() + b"\0")
        return parts

    monkeypatch.setattr(model, "_torch", slow)
    with pytest.raises(LoadError, match="changed while it was being read"):
        load_model(path)


def test_loading_leaves_the_allow_list_of_torch_alone(save):
    before = torch.serialization.get_safe_globals()
    load_model(save(nn.Linear(2, 2)))
    assert torch.serialization.get_safe_globals() == before


def test_many_threads_may_load_at_once(save, canary):
    good, bad = save(nn.LSTM(3, 4), "good.pt"), save(Calls(os.system, canary), "bad.pt")
    seen = []

    def work():
        for _ in range(10):
            load_model(good)
            try:
                load_model(bad)
            except RefusedError:
                seen.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 40


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "nt.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.open",
        "timeit.timeit",
        "runpy.run_path",
        "torch.hub.load",
        "torch.utils.collect_env.run",
        "torch.load",
        "importlib.import_module",
        "pickle.loads",
        "_posixsubprocess.fork_exec",
        "os.path.join",
        "webbrowser.open",
        "socket.socket",
    ],
)
def test_what_runs_commands_is_known_as_code(name):
    assert sort_of(name) is Sort.CODE


@pytest.mark.parametrize("name", ["my.Net", "__main__.Net", "osmosis.Net", "torchvision.ops.Conv"])
def test_what_a_user_may_have_written_is_foreign(name):
    assert sort_of(name) is Sort.FOREIGN
