#pragma once
// Which points are near a place? Eight points to a leaf and eight children to a node, in the order of a space-filling
// curve, each with its box. Which points share a leaf decides how fast an answer is found, never what it is: a box is
// passed over by the distance of its nearest corner, computed as that of a point is, and rounding is monotone.

#include "core/macros.hpp"
#include "core/view.hpp"

constexpr int kBranch = 8;          // what a leaf and a node have side by side, as vectors have numbers
constexpr int kTreeLevels = 10;     // of nodes, for 2**31 points
constexpr int kCurveBits = 3 * 18;  // a cell of the curve: 2**18 along each axis

template <class T> P2D3D_HD bool all_finite(const T *p) {
  return (p[0] - p[0] == T(0)) & (p[1] - p[1] == T(0)) & (p[2] - p[2] == T(0));
}

/// Where each level of nodes begins, from those above the leaves to the root.
struct TreeLevels {
  int64_t begin[kTreeLevels + 1] = {}, width[kTreeLevels + 1] = {};  // width[0] leaves; then nodes
  int root = 0;                                                      // its level; 0 where there is no point

  explicit TreeLevels(int64_t points) {
    width[0] = (points + kBranch - 1) / kBranch;
    for (int64_t below = width[0]; below > 0 && (root == 0 || below > 1); below = width[root]) {
      ++root;
      begin[root] = root == 1 ? 0 : begin[root - 1] + width[root - 1];
      width[root] = (below + kBranch - 1) / kBranch;
    }
  }
  int64_t nodes() const { return root ? begin[root] + 1 : 0; }
};

/// leaves (L, 3, 8): x, y and z of each leaf's points, NaN where there is none or one that is not finite; nodes
/// (M, 6, 8): the lowest and highest x, y and z of each child; order (N): which point is at each place of the leaves.
template <class T> struct NeighbourTree {
  View<const T, 3> leaves, nodes;
  View<const int64_t, 1> order;
  TreeLevels levels;

  NeighbourTree(View<const T, 3> leaves, View<const T, 3> nodes, View<const int64_t, 1> order)
      : leaves(leaves),
        nodes(nodes),
        order(order),
        levels(order.shape[0]) {}

  /// Calls found.take(d, n) for every point n whose squared distance d from q may be at most found.bound(), the
  /// nearest box of each node first, and perhaps for others. d is ((x^2 + y^2) + z^2) of the differences; none is at
  /// infinity.
  template <class Found> P2D3D_HD void visit(const T *q, Found &found) const {
    if (levels.root == 0 || !all_finite(q)) return;
    // Two arrays, not one of pairs: what is read as it was written comes without waiting for the memory.
    T waiting[(kBranch - 1) * kTreeLevels + 1];
    int64_t node[(kBranch - 1) * kTreeLevels + 1];  // its place in its level, and the level
    int top = 0;
    waiting[top] = T(0), node[top++] = levels.root;
    while (top > 0) {
      if (!(waiting[--top] <= found.bound())) continue;  // which has come down since
      const int64_t level = node[top] % kLevelEnd, place = node[top] / kLevelEnd;
      T distance[kBranch];
      if (level == 0) {
        to_points(leaves.data + place * (3 * kBranch), q, distance);
        for (int c = 0; c < kBranch; ++c)
          if (distance[c] <= found.bound()) found.take(distance[c], order(place * kBranch + c));
        continue;
      }
      to_boxes(nodes.data + (levels.begin[level] + place) * (6 * kBranch), q, distance);
      const int first = top;
      for (int c = 0; c < kBranch; ++c) {
        if (!(distance[c] <= found.bound())) continue;
        int at = top++;
        if (at > first && waiting[at - 1] < distance[c]) {  // the nearest stays on top: sorting all pays less
          waiting[at] = waiting[at - 1], node[at] = node[at - 1];
          --at;
        }
        waiting[at] = distance[c], node[at] = (place * kBranch + c) * kLevelEnd + level - 1;
      }
    }
  }

 private:
  static constexpr int64_t kLevelEnd = 16;

  P2D3D_HD static void to_points(const T *xyz, const T *q, T *distance) {
    for (int c = 0; c < kBranch; ++c) {
      const T x = q[0] - xyz[c], y = q[1] - xyz[kBranch + c], z = q[2] - xyz[2 * kBranch + c];
      distance[c] = (x * x + y * y) + z * z;
    }
  }
  P2D3D_HD static void to_boxes(const T *box, const T *q, T *distance) {
    for (int c = 0; c < kBranch; ++c) {
      const T x = outside(box + c, q[0]), y = outside(box + kBranch + c, q[1]),
              z = outside(box + 2 * kBranch + c, q[2]);
      distance[c] = (x * x + y * y) + z * z;  // infinite for a box without a point
    }
  }
  P2D3D_HD static T outside(const T *low, T q) {
    const T below = low[0] - q, above = q - low[3 * kBranch], far = below > above ? below : above;
    return far > T(0) ? far : T(0);
  }
};
