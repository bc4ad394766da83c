"""The kit of rewrites of scheduled PrimFuncs."""

import tvm_ffi
from tvm import te, tirx

from tvmbuild.schedules.tir.flat_views import FlatViews
from tvmbuild.schedules.tir.rewrite import (
    in_sequence,
    nest_of,
    uses,
    vector_loop,
    with_axes_bound,
    with_new_variable,
    with_root_body,
)


def two_stages():
    data = te.placeholder((4, 8), name="data")
    doubled = te.compute((4, 8), lambda i, j: data[i, j] * 2.0, name="doubled")
    return te.create_prim_func([data, te.compute((4, 8), lambda i, j: doubled[i, j] + 1.0, name="result")])


def test_another_body_leaves_the_rest_of_the_root_block():
    func = two_stages()
    kept = with_root_body(func, func.body.block.body)
    assert kept.script() == func.script()
    (buffer,) = func.body.block.alloc_buffers
    twin = tirx.decl_buffer(buffer.shape, buffer.dtype, "twin")
    more = with_root_body(func, func.body.block.body, buffers=[buffer, twin])
    assert [str(found.name) for found in more.body.block.alloc_buffers] == ["doubled", "twin"]
    assert more.body.block.name_hint == func.body.block.name_hint


def test_renewed_definitions_are_shared_with_no_other_kernel():
    func = two_stages()
    body = func.body.block.body
    (buffer,) = func.body.block.alloc_buffers
    for renew in (False, True):
        made = with_root_body(func, body, renew=renew)
        assert made.body.block.alloc_buffers[0].same_as(buffer) is not renew
        assert uses(made.body.block.body, body.seq[0].loop_var) is not renew
        assert tvm_ffi.structural_equal(made, func, map_free_vars=True)


def test_a_copy_of_a_loop_has_a_variable_of_its_own():
    loop = two_stages().body.block.body.seq[0]
    copy = with_new_variable(loop)
    assert not uses(copy, loop.loop_var)
    assert uses(copy.body, copy.loop_var)


def test_each_buffer_has_one_flat_view_whatever_its_name():
    views = FlatViews()
    assert not views
    first, second = (tirx.decl_buffer((3, 5), "float32", "same") for _ in range(2))
    assert views.of(first).same_as(views.of(first))
    assert not views.of(first).same_as(views.of(second))
    assert [int(extent) for extent in views.of(second).shape] == [15]
    func = two_stages()
    declared = views.declared(func, func.body.block.body).body.block.body.seq
    assert [isinstance(part, tirx.DeclBuffer) for part in declared[:2]] == [True, True]


def test_a_nest_is_its_loops_and_what_stands_in_them():
    loop = two_stages().body.block.body.seq[0]
    loops, realize = nest_of(loop)
    assert [int(each.extent) for each in loops] == [4, 8]
    store = with_axes_bound(realize.block.body, realize)
    assert all(uses(store, each.loop_var) for each in loops)
    assert not any(uses(store, axis.var) for axis in realize.block.iter_vars)
    assert nest_of(realize) == ([], realize)


def test_one_statement_is_its_own_sequence():
    lane = tirx.Var("lane", "int64")
    one = vector_loop(lane, 4, tirx.Evaluate(lane))
    assert (one.kind, int(one.extent)) == (tirx.ForKind.VECTORIZED, 4)
    assert in_sequence([one]).same_as(one)
    assert len(in_sequence([one, one]).seq) == 2
