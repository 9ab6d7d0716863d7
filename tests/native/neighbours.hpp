#pragma once
#include <numeric>

#include "driver.hpp"
#include "ops.hpp"

/// Points, some of them in one place and some not finite, and the tree over them in any order.
template <class T> struct Neighbours {
  Array<T, 2> points;
  Array<int64_t, 1> order;
  Array<T, 3> leaves, nodes;

  Neighbours(int64_t n, Random &random)
      : points(n, 3),
        order(n),
        leaves((n + kBranch - 1) / kBranch, 3, kBranch),
        nodes(neighbour_tree_nodes(n), 6, kBranch) {
    randomize(points, random, -2, 2, 30);
    for (T &x : points)
      if (random.below(3) == 0) x = std::round(x);
    std::iota(order.begin(), order.end(), int64_t(0));
    for (int64_t i = n - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    neighbour_tree<T>(Exec(), points, order, leaves, nodes);
  }
  NeighbourTree<T> tree() const { return {leaves, nodes, order}; }
};
