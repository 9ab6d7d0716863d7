#pragma once
// The native table of contents: every operation, declared and documented once. T is the geometry's float or double,
// F a feature type. Arrays are dense and row-major; features carry their channels last; an optional array is a null
// view. Every operation writes every element of its outputs unless it says that they come filled.

#include "core/exec.hpp"
#include "core/half.hpp"
#include "core/neighbour_tree.hpp"
#include "core/view.hpp"

/// The inverse poses, rounded nowhere. world_from_camera (V, 4, 4); out (V, 3, 4): general 3x3 inverse by cofactors.
template <class T> void camera_from_world(const Exec &on, View<const T, 3> world_from_camera, View<double, 3> out);

/// points (N, 3) to uvz (V, N, 3). camera_from_world (V, 3, 4); intrinsics (V, 4) as fx, fy, cx, cy.
template <class T>
void project(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world, View<const T, 2> intrinsics,
             View<T, 3> uvz);
/// Gradient of project to the points: out (N, 3), summed over views in order.
template <class T>
void project_grad_points(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                         View<const T, 2> intrinsics, View<const T, 3> grad, View<T, 2> out);
/// Gradient of project to the cameras: out (V, 16), twelve of camera_from_world and four of the intrinsics.
/// partial (V, blocks of kGradBlock points, 16) is scratch: blocks are summed in order.
constexpr int64_t kGradBlock = 1024;
template <class T>
void project_grad_camera(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                         View<const T, 2> intrinsics, View<const T, 3> grad, View<double, 3> partial, View<T, 2> out);

/// What makes a point seen: see visibility in ops/visibility.py.
struct SeenRule {
  int64_t height, width, border;
  double z_min, z_max, depth_scale, a, b, c;  // |depth - z| <= a + b z + c z^2
};
/// Pass 1 of visibility. depth (V, H W) of D = T or uint16, or null. Points go in tiles of kTile:
/// bits (V, tiles, kTile / 32) one bit per point, count (V, tiles) set bits.
constexpr int64_t kTile = 256;
template <class T, class D>
void visibility_test(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                     View<const T, 2> intrinsics, View<const D, 2> depth, const SeenRule &rule, View<uint32_t, 3> bits,
                     View<int64_t, 2> count);
/// Pass 2: writes the set bits in order. end (V, tiles): inclusive running sum of count. point and pixel (M).
template <class T>
void visibility_fill(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                     View<const T, 2> intrinsics, const SeenRule &rule, View<const uint32_t, 3> bits,
                     View<const int64_t, 2> end, View<int32_t, 1> point, View<int32_t, 1> pixel);

/// What a z-buffer is: the grid (h, w) holds every stride-th pixel of the image, a point covers 2 radius + 1 pixels.
struct ZbufferGrid {
  int64_t height, width, radius, stride;
};
/// Nearest point per grid pixel, for all points or those listed by ptr (V + 1) and point (M). index (V, h, w) comes
/// filled with -1; leaves -1 and depth 0 where nothing projects. Equal depths go to the lower index.
template <class T>
void zbuffer(const Exec &on, View<const T, 3> uvz, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
             const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth);
/// The same for points and cameras, projected on the way.
template <class T>
void zbuffer_points(const Exec &on, View<const T, 2> points, View<const T, 3> camera_from_world,
                    View<const T, 2> intrinsics, const ZbufferGrid &grid, View<int64_t, 3> index, View<T, 3> depth);
/// Gradient of depth (V, h, w) to uvz: out (V, N, 3).
template <class T>
void zbuffer_grad(const Exec &on, View<const T, 3> uvz, const ZbufferGrid &grid, View<const int64_t, 3> index,
                  View<const T, 3> grad, View<T, 3> out);

/// out (P, C) = rows (N, C) at index (P), zero where it is negative.
template <class F> void take_rows(const Exec &on, View<const F, 2> rows, View<const int64_t, 1> index, View<F, 2> out);
/// out (D, C), filled with zeros: out[d] = sum of rows[row[s]] * weight[row[s]] over the run of s with key[s] == d, in
/// order, divided by the run's length if `mean`. key (L) ascends; negative keys are passed over. weight and count may
/// be null; count (D), filled with zeros, gets the length of each run.
template <class F>
void sum_runs(const Exec &on, View<const F, 2> rows, View<const int64_t, 1> row, View<const int64_t, 1> key,
              View<const acc_t<F>, 1> weight, bool mean, View<int64_t, 1> count, View<F, 2> out);

/// How an image of (height, width) pixels lies on a map of (h, w) cells.
struct MapRule {
  int64_t height, width;
  bool bilinear, align_corners;
};
/// Where to read L rows: at uv (V, N, 2), or at the matches ptr (V + 1) and pixel (L), or at flat (L), pixels of the
/// flattened (V, H, W). The others are null.
template <class U> struct Places {
  View<const U, 3> uv;
  View<const int64_t, 1> ptr;
  View<const int32_t, 1> pixel;
  View<const int64_t, 1> flat;
};
/// maps (V, h, w, C) read at places: out (L, C). norm (L), if not null, gets max(|row|, 1e-12), and rows are divided by
/// it.
template <class F, class U>
void sample(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule, View<acc_t<F>, 1> norm,
            View<F, 2> out);

/// The gradient that reaches a sampled row. grad (L, C), or (N, C) with point (M) and count (N): then row i has
/// grad[point[i]] / count[point[i]], or, with arg (N, C) not null, grad[point[i]] where arg is the row's view.
template <class F> struct RowGrad {
  View<const F, 2> grad;
  View<const int32_t, 1> point, count;
  View<const int32_t, 2> arg;
};
/// For the gradients below: cell (L) the flat map cell under each place, V h w where it lies outside; weight (L, 4) of
/// that cell and those right of it, below it and diagonally below; scale (L) what the gradient of a row is multiplied
/// by, for the mean and the length of the row; pull (L), null unless rows are normalized, how much of the row itself is
/// then taken away: d(x / |x|) = g / |x| - x (x . g) / |x|^3.
template <class F, class U>
void sample_prepare(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                    const RowGrad<F> &grad, View<int64_t, 1> cell, View<acc_t<F>, 2> weight, View<acc_t<F>, 1> scale,
                    View<acc_t<F>, 1> pull);
/// Gradient to the maps: out (V, h, w, C). order (L) sorts cell, start (V h w + 1) says where each cell begins in it.
/// partial (V h, 2, w C) is scratch with which the CPU is faster where many places fall on a cell, or null; the bits
/// are the same.
template <class F>
void sample_grad_maps(const Exec &on, View<const F, 4> maps, bool bilinear, const RowGrad<F> &grad,
                      View<const acc_t<F>, 2> weight, View<const acc_t<F>, 1> scale, View<const acc_t<F>, 1> pull,
                      View<const int64_t, 1> order, View<const int64_t, 1> start, View<acc_t<F>, 3> partial,
                      View<F, 4> out);
/// Gradient to uv: out (V, N, 2).
template <class F, class U>
void sample_grad_uv(const Exec &on, View<const F, 4> maps, const Places<U> &places, const MapRule &rule,
                    const RowGrad<F> &grad, View<const acc_t<F>, 1> scale, View<const acc_t<F>, 1> pull,
                    View<U, 3> out);

/// Adds what the views see to fused (N, C), in view order: sums, or the maximum and, with arg (N, C) not null, the view
/// it came from. count (N) says how many views saw each point before, whose rows fused then holds, and grows by these.
/// With `finish` sums become means and a point that no view sees becomes 0.
template <class F>
void fuse_views(const Exec &on, View<const F, 4> maps, const Places<acc_t<F>> &places, View<const int32_t, 1> point,
                const MapRule &rule, View<acc_t<F>, 1> norm, bool maximum, bool finish, View<acc_t<F>, 2> fused,
                View<int32_t, 1> count, View<int32_t, 2> arg);

/// Depth images and their cameras: depth (B, H, W) of D = T or uint16, metres = value / scale; world_from_camera
/// (B, 3, 4); intrinsics (B, 4).
template <class T, class D> struct DepthImages {
  View<const D, 3> depth;
  View<const T, 3> world_from_camera;
  View<const T, 2> intrinsics;
  double scale;
};
/// Pass 1 of back_project: count (B, tiles) valid pixels of each kTile pixels of an image.
template <class T, class D> void back_project_count(const Exec &on, DepthImages<T, D> images, View<int64_t, 2> count);
/// Pass 2: points (M, 3) in the world and their pixel (M), in raster order. end (B, tiles): inclusive running sum of
/// count.
template <class T, class D>
void back_project_fill(const Exec &on, DepthImages<T, D> images, View<const int64_t, 2> end, View<T, 2> points,
                       View<int32_t, 1> pixel);
/// The same at flat (P), pixels of the flattened (B, H, W): points (P, 3) are NaN and valid (P) 0 where depth is not
/// valid.
template <class T, class D>
void back_project_pixels(const Exec &on, DepthImages<T, D> images, View<const int64_t, 1> flat, View<T, 2> points,
                         View<int32_t, 1> pixel, View<uint8_t, 1> valid);
/// Gradient of the points. flat (M) ascends; row (M) says which row of grad (M, 3) each belongs to, null: its own.
/// ptr (B + 1) where each image begins in flat. out_depth (B, H, W) comes filled with zeros, null for uint16 depth.
/// partial (B, blocks of kGradBlock, 16) is scratch; out_camera (B, 16): twelve of world_from_camera, four intrinsics.
template <class T, class D>
void back_project_grad(const Exec &on, DepthImages<T, D> images, View<const int64_t, 1> flat,
                       View<const int64_t, 1> row, View<const int64_t, 1> ptr, View<const T, 2> grad,
                       View<T, 3> out_depth, View<double, 3> partial, View<T, 2> out_camera);

/// CPU only: a stable sort. key (N), fewer than 2**31, not negative and within `bits`, to sorted (N) and the positions
/// they came from, order (N). scratch (N), for int64 keys (4 N).
template <class K>
void sort_keys(const Exec &on, View<const K, 1> key, int bits, View<int64_t, 1> scratch, View<K, 1> sorted,
               View<int64_t, 1> order);

/// Points (N, 3) in voxels floor((p - origin) / size); origin (3); batch (N) or null.
template <class T> struct VoxelGrid {
  View<const T, 2> points;
  View<const int64_t, 1> batch;
  View<const T, 1> origin;
  double size[3];
};
constexpr int64_t kLastBatch = 2147483646;
/// voxelize works by blocks of points; so many of them.
int64_t voxelize_blocks(const Exec &on, int64_t n);
/// box (blocks, 6): the minima of x, y, z, -x, -y, -z over the finite points of a block; infinite where there is none.
template <class T> void voxelize_box(const Exec &on, VoxelGrid<T> grid, View<T, 2> box);
/// extent (8) in cells: the lowest b, x, y, z, and the lengths, 0 along an axis that is beyond int32 and 1 where no
/// point is finite. box (6) is the minimum over all blocks, batches (2) the lowest and highest batch, or null.
template <class T>
void voxelize_extent(const Exec &on, VoxelGrid<T> grid, View<const T, 1> box, View<const int64_t, 1> batches,
                     View<int64_t, 1> extent);
/// key (N) orders as (batch, x, y, z) do within the extent, or, with an axis of 0 to 3, as that one does. A point that
/// is not finite gets the number of cells, and so comes last. Wraps around if K is too small.
template <class T, class K>
void voxelize_keys(const Exec &on, VoxelGrid<T> grid, View<const int64_t, 1> extent, int axis, View<K, 1> key);
/// count (blocks): voxels that begin in each block of the sorted keys, of which the first valid (1) are of finite
/// points.
template <class K>
void voxelize_count(const Exec &on, View<const K, 1> key, View<const int64_t, 1> valid, View<int64_t, 1> count);
/// The voxels: coords (M, 4), inverse (N), ptr (M + 1), of at least one point. end (blocks): inclusive running sum of
/// count.
template <class T, class K>
void voxelize_fill(const Exec &on, VoxelGrid<T> grid, View<const K, 1> key, View<const int64_t, 1> order,
                   View<const int64_t, 1> valid, View<const int64_t, 1> end, View<int32_t, 2> coords,
                   View<int64_t, 1> inverse, View<int64_t, 1> ptr);

/// Segments of points: order (N) lists them voxel by voxel, ptr (M + 1) says where each voxel begins in it.
struct Segments {
  View<const int64_t, 1> order, ptr;
};
/// rows (N, C) to the sum or mean of each segment, out (M, C).
template <class F>
void scatter_sum(const Exec &on, View<const F, 2> rows, const Segments &segments, bool mean, View<F, 2> out);
/// out (M, C) at row (P) += rows (P, C). No row is there twice, so that one worker adds to each.
template <class F>
void add_rows(const Exec &on, View<const F, 2> rows, View<const int32_t, 1> row, View<acc_t<F>, 2> out);

constexpr int64_t kConvolveBlock = 512;  // outputs that one worker sums
constexpr int64_t kConvolvePanel = 128;  // bytes of their channels that it sums in one go
/// The pairs of a kernel map, source and target (P), by block of targets and then offset; ptr (blocks K + 1).
struct BlockPairs {
  View<const int32_t, 1> source, target;
  View<const int64_t, 1> ptr;
};
/// CPU only: out (M, C_out) sums, in the order of the offsets, weight (C_out, K, C_in) of the offset times rows (N,
/// C_in) at the source; or, `turned`, its transpose times rows (N, C_out) to out (M, C_in). packed (K, panels, channels
/// of the rows, numbers of a panel) is scratch. No target is there twice under one offset.
template <class T>
void convolve(const Exec &on, View<const T, 2> rows, BlockPairs pairs, View<const T, 3> weight, bool turned,
              View<T, 4> packed, View<T, 2> out);
/// CPU only: the gradient of the weight, out (C_out, K, C_in): the sum of grad (M, C_out) at the target times rows (N,
/// C_in) at the source over the pairs of each offset.
template <class T>
void convolve_grad(const Exec &on, View<const T, 2> rows, View<const T, 2> grad, BlockPairs pairs, View<T, 3> out);

/// rows (N, C) to the maximum or minimum, out (M, C), and, if not null, arg (M, C): the lowest point that has it. A NaN
/// wins.
template <class F>
void scatter_extreme(const Exec &on, View<const F, 2> rows, const Segments &segments, bool maximum, View<F, 2> out,
                     View<int64_t, 2> arg);
/// Gradient of both: out (N, C) = grad (M, C) of a point's voxel, inverse (N), divided by its points if `mean`, or,
/// with arg (M, C) not null, where that is the point; zero for a point in no voxel.
template <class F>
void scatter_grad(const Exec &on, View<const F, 2> grad, View<const int64_t, 1> inverse, View<const int64_t, 1> ptr,
                  bool mean, View<const int64_t, 2> arg, View<F, 2> out);
/// The most frequent label that is not negative of each segment, the smallest of several; -1 where there is none.
/// labels (N); scratch (N); out (M).
void scatter_mode(const Exec &on, View<const int64_t, 1> labels, const Segments &segments, View<int64_t, 1> scratch,
                  View<int64_t, 1> out);

/// Which inputs does a kernel read for an output o: i = o stride - padding + k dilation along x, y, z, for k from 0 to
/// size - 1. Outputs are within 0 and shape - 1; anywhere where shape is -1.
struct KernelRule {
  int64_t size[3], stride[3], padding[3], dilation[3], shape[3];
};
/// Voxels as batch, x, y, z, all different and in ascending order, and the row (M) of the caller's that each is; null:
/// their own.
struct SortedVoxels {
  View<const int32_t, 2> coords;
  View<const int64_t, 1> row;
};
/// kernel_map works by blocks of voxels; so many of them.
int64_t kernel_map_blocks(const Exec &on, int64_t n);
/// extent (blocks, 10) of coords (M, 4): how many are below the one before and how many equal it, the lowest b, x, y, z
/// and the highest.
void kernel_map_extent(const Exec &on, View<const int32_t, 2> coords, View<int64_t, 2> extent);
/// The outputs that read each input. Pass 1, end null: count (blocks). Pass 2, with end (blocks), the inclusive running
/// sum: out (C, 4), input by input, so that many are there more than once.
void kernel_map_outputs(const Exec &on, View<const int32_t, 2> coords, const KernelRule &rule,
                        View<const int64_t, 1> end, View<int64_t, 1> count, View<int32_t, 2> out);
/// The pairs of each offset (kx size_y + ky) size_z + kz, in the order of the outputs.
struct KernelPairs {
  View<int64_t, 2> next;           // (offsets, blocks)
  View<int32_t, 2> first;          // (columns of the kernel, Q): scratch, the first input that each output reads there
  View<const int64_t, 1> ptr;      // (K + 1), or null
  View<int32_t, 1> input, output;  // (P) rows of the two
};
/// Pass 1, input null: next gets how many pairs there are for each block of outputs, first is filled. Pass 2: next says
/// where each block begins, and is used up. Of a submanifold map of odd size the first K / 2 offsets are enough: with
/// ptr each pair is written to the opposite offset too, turned round; the centre is not written.
void kernel_map_pairs(const Exec &on, const SortedVoxels &in, const SortedVoxels &out, const KernelRule &rule,
                      const KernelPairs &pairs);

/// Points (N, 3) sorted by their cells, which ascend by coords (M, 4): label, x, y, z; cell c has those from ptr (M +
/// 1) of c on. No cell is empty, and all points of one are less than the radius apart.
template <class T> struct Cells {
  View<const int32_t, 2> coords;
  View<const int64_t, 1> ptr;
  View<const T, 2> points;
};
/// Joins cells of equal label that have two points less than the radius apart, which is less than two cells and a
/// diagonal: root (M), the lowest cell that each hangs together with.
template <class T> void cluster_cells(const Exec &on, Cells<T> cells, double radius, View<int64_t, 1> root);

/// CPU only: the weight (E) of edges (E, 2) from a point p to a point q of points (N, 3), with normals (N, 3) n and m:
/// 1 - n . m, squared where m . (q - p) > 0, which is convex; 0 where that is negative, infinite where it is NaN.
template <class T>
void superpoints_weights(const Exec &on, View<const T, 2> points, View<const T, 2> normals,
                         View<const int64_t, 2> edges, View<T, 1> weight);
/// CPU only, on one thread: the segment of each point, out (N), numbered by their lowest points. sorted (E) has the
/// weights in ascending order, order (E) the edges they are of; it is used up. threshold (N) and size (N) are scratch.
template <class T>
void superpoints_merge(View<const int64_t, 2> edges, View<const T, 1> sorted, double k, int64_t min_size,
                       View<int64_t, 1> order, View<T, 1> threshold, View<int64_t, 1> size, View<int64_t, 1> out);

/// n of each cloud's points, each the farthest from those before it: out (B n), into points (N, 3). ptr (B + 1): where
/// clouds begin; on CUDA one that does not ascend within the points stops the kernel. start: the first one's place in
/// its cloud; the lowest finite point where there is none or it is not finite. -1 where no finite point is left.
/// distance (N) is scratch.
template <class T>
void farthest_point_sample(const Exec &on, View<const T, 2> points, View<const int64_t, 1> ptr, int64_t start,
                           int64_t n, View<T, 1> distance, View<int64_t, 1> out);
/// CPU only: the same, faster, with points in buckets of `size`. order (N) lists each cloud's points, neighbours side
/// by side. Scratch: sorted (4, N), point (N), bucket (7, N / size + B), farthest (N / size + B).
template <class T>
void farthest_point_sample_buckets(const Exec &on, View<const T, 2> points, View<const int64_t, 1> ptr,
                                   View<const int64_t, 1> order, int64_t start, int64_t n, int64_t size,
                                   View<T, 2> sorted, View<int32_t, 1> point, View<T, 2> bucket,
                                   View<int32_t, 1> farthest, View<int64_t, 1> out);
/// The size of a bucket for clouds of so many points in all.
int64_t farthest_point_sample_bucket(int64_t points);

/// key (N): the place along a space-filling curve, of kCurveBits bits, of points (N, 3) in cubes from the corner
/// frame[0:3] with the edge frame[3]. A point beyond them is as at their border, one that is not finite the last.
template <class T>
void curve_keys(const Exec &on, View<const T, 2> points, View<const T, 1> frame, View<int64_t, 1> key);
/// A tree over points (N, 3) in this order (N), of any kind: see core/neighbour_tree.hpp for leaves and nodes.
template <class T>
void neighbour_tree(const Exec &on, View<const T, 2> points, View<const int64_t, 1> order, View<T, 3> leaves,
                    View<T, 3> nodes);
/// How many nodes it has for so many points.
int64_t neighbour_tree_nodes(int64_t points);

/// The points at a distance below radius from queries (Q, 3): index (Q, k) the lowest k of them, ascending, then -1;
/// count (Q) all of them. turn (Q): the order in which queries are answered, a permutation.
template <class T>
void ball_query(const Exec &on, const NeighbourTree<T> &tree, View<const T, 2> queries, View<const int64_t, 1> turn,
                double radius, View<int64_t, 2> index, View<int64_t, 1> count);

/// The three points nearest to queries (Q, 3), of equal ones the lowest: squared distance and index (Q, 3), infinite
/// and -1 where there are fewer.
template <class T>
void three_nn(const Exec &on, const NeighbourTree<T> &tree, View<const T, 2> queries, View<const int64_t, 1> turn,
              View<T, 2> distance, View<int64_t, 2> index);
/// Its gradient: to the queries, out (Q, 3), and what each neighbour of each query gets of it, pull (3 Q, 3).
template <class T>
void three_nn_grad(const Exec &on, View<const T, 2> points, View<const T, 2> queries, View<const int64_t, 2> index,
                   View<const T, 2> grad, View<T, 2> pull, View<T, 2> out);

/// CPU only: the first match that is not a point of n_points at a pixel of n_pixels, or does not ascend within its
/// view; M where all are sound.
int64_t first_bad_match(const Exec &on, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
                        View<const int32_t, 1> pixel, int64_t n_points, int64_t n_pixels);
