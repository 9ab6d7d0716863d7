#include "core/lanes.hpp"
#include "core/long_sum.hpp"
#include "ops.hpp"

namespace {

/// One piece of the rows of one segment, read in order.
template <class F, int W> struct SegmentRows {
  View<const F, 2> rows;
  Segments segments;

  P2D3D_HD const F *at(int64_t s, int64_t end, int64_t lane) const {
    if (s + kAhead < end) prefetch_lane<W>(rows.data, rows.shape[1], segments.order(s + kAhead), lane);
    const int64_t n = segments.order(s);
    P2D3D_DEVICE_CHECK(n >= 0 && n < rows.shape[0]);
    return rows.data + n * rows.shape[1] + lane * W;
  }
};

template <class F, int W> struct SumOfSegment {  // one piece of one row
  SegmentRows<F, W> from;
  bool mean;
  View<F, 2> out;

  P2D3D_HD void operator()(int64_t m, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t begin = from.segments.ptr(m), end = from.segments.ptr(m + 1), last = from.segments.order.shape[0];
    const int width = lane_end<W>(out.shape[1], lane);
    A sum[W] = {};
    LongSum<A, W> whole;
    for (int64_t s = begin; s < end; ++s) {
      const F *row = from.at(s, last, lane);
      whole.begin_term(sum);
      P2D3D_FOR_CHANNELS(c, W, width) sum[c] += A(row[c]);
    }
    whole.finish(sum);
    const A length = mean ? A(end - begin) : A(1);
    F *to = out.data + m * out.shape[1] + lane * W;
    P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(sum[c] / length);
  }
};

template <class F, int W> struct AddRow {  // one piece of one row
  View<const F, 2> rows;
  View<const int32_t, 1> row;
  View<acc_t<F>, 2> out;

  P2D3D_HD void operator()(int64_t p, int64_t lane) const {
    const int64_t channels = out.shape[1], first = lane * W, m = row(p);
    if (p + kAhead < rows.shape[0]) prefetch_lane<W>(out.data, channels, row(p + kAhead), lane);
    P2D3D_DEVICE_CHECK(m >= 0 && m < out.shape[0]);
    const int width = lane_end<W>(channels, lane);
    const F *from = rows.data + p * channels + first;
    acc_t<F> *to = out.data + m * channels + first;
    P2D3D_FOR_CHANNELS(c, W, width) to[c] += acc_t<F>(from[c]);
  }
};

template <class F, int W> struct ExtremeOfSegment {  // one piece of one row
  SegmentRows<F, W> from;
  bool maximum;
  View<F, 2> out;
  View<int64_t, 2> arg;

  P2D3D_HD void operator()(int64_t m, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t begin = from.segments.ptr(m), end = from.segments.ptr(m + 1), last = from.segments.order.shape[0];
    const int width = lane_end<W>(out.shape[1], lane);
    const A sign = maximum ? A(1) : A(-1);
    A best[W];
    int64_t point[W];
    const F *row = from.at(begin, last, lane);
    P2D3D_FOR_CHANNELS(c, W, width) best[c] = sign * A(row[c]), point[c] = from.segments.order(begin);
    for (int64_t s = begin + 1; s < end; ++s) {
      row = from.at(s, last, lane);
      const int64_t n = from.segments.order(s);
      P2D3D_FOR_CHANNELS(c, W, width) {
        const A x = sign * A(row[c]);
        const bool wins = (x > best[c]) | ((x != x) & (best[c] == best[c]));
        best[c] = wins ? x : best[c];
        point[c] = wins ? n : point[c];
      }
    }
    F *to = out.data + m * out.shape[1] + lane * W;
    P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(sign * best[c]);
    if (!arg) return;
    int64_t *to_arg = arg.data + m * out.shape[1] + lane * W;
    P2D3D_FOR_CHANNELS(c, W, width) to_arg[c] = point[c];
  }
};

template <class F, int W> struct GradOfPoint {  // one piece of one row
  View<const F, 2> grad;
  View<const int64_t, 1> inverse, ptr;
  bool mean;
  View<const int64_t, 2> arg;
  View<F, 2> out;

  P2D3D_HD void operator()(int64_t n, int64_t lane) const {
    using A = acc_t<F>;
    const int64_t m = inverse(n), channels = out.shape[1], first = lane * W;
    const int width = lane_end<W>(channels, lane);
    F *to = out.data + n * channels + first;
    P2D3D_DEVICE_CHECK(m < grad.shape[0]);
    const F *from = grad.data + (m < 0 ? 0 : m) * channels + first;
    if (m < 0) {
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(A(0));
    } else if (arg) {
      const int64_t *won = arg.data + m * channels + first;
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = won[c] == n ? from[c] : store<F>(A(0));
    } else {
      const A length = mean ? A(ptr(m + 1) - ptr(m)) : A(1);
      P2D3D_FOR_CHANNELS(c, W, width) to[c] = store<F>(A(from[c]) / length);
    }
  }
};

/// Sorts in place, on either device, without recursion (Williams 1964, Algorithm 232: Heapsort).
P2D3D_HD void heap_sort(int64_t *x, int64_t n) {
  for (int64_t start = n / 2, end = n; end > 1;) {
    int64_t sink;
    if (start > 0) sink = x[--start];
    else sink = x[--end], x[end] = x[0];
    int64_t hole = start;
    for (int64_t child = 2 * hole + 1; child < end; child = 2 * hole + 1) {
      if (child + 1 < end && x[child + 1] > x[child]) ++child;
      if (x[child] <= sink) break;
      x[hole] = x[child];
      hole = child;
    }
    x[hole] = sink;
  }
}

struct ModeOfSegment {  // one voxel
  View<const int64_t, 1> labels;
  Segments segments;
  View<int64_t, 1> scratch, out;

  P2D3D_HD void operator()(int64_t, int64_t m) const {
    const int64_t begin = segments.ptr(m), end = segments.ptr(m + 1);
    int64_t *mine = scratch.data + begin, n = 0;
    for (int64_t s = begin; s < end; ++s) {
      const int64_t label = labels(segments.order(s));
      if (label >= 0) mine[n++] = label;
    }
    heap_sort(mine, n);
    int64_t best = -1, most = 0;
    for (int64_t i = 0, run = 0; i < n; ++i) {
      run = i > 0 && mine[i] == mine[i - 1] ? run + 1 : 1;
      if (run > most) most = run, best = mine[i];
    }
    out(m) = best;
  }
};

}  // namespace

template <class F>
void scatter_sum(const Exec &on, View<const F, 2> rows, const Segments &segments, bool mean, View<F, 2> out) {
  for_each_lane(on, out.shape[0], out.shape[1], [&](auto width) {
    constexpr int W = decltype(width)::value;
    return SumOfSegment<F, W>{{rows, segments}, mean, out};
  });
}

template <class F>
void add_rows(const Exec &on, View<const F, 2> rows, View<const int32_t, 1> row, View<acc_t<F>, 2> out) {
  for_each_lane(on, rows.shape[0], rows.shape[1],
                [&](auto width) { return AddRow<F, decltype(width)::value>{rows, row, out}; });
}

template <class F>
void scatter_extreme(const Exec &on, View<const F, 2> rows, const Segments &segments, bool maximum, View<F, 2> out,
                     View<int64_t, 2> arg) {
  for_each_lane(on, out.shape[0], out.shape[1], [&](auto width) {
    constexpr int W = decltype(width)::value;
    return ExtremeOfSegment<F, W>{{rows, segments}, maximum, out, arg};
  });
}

template <class F>
void scatter_grad(const Exec &on, View<const F, 2> grad, View<const int64_t, 1> inverse, View<const int64_t, 1> ptr,
                  bool mean, View<const int64_t, 2> arg, View<F, 2> out) {
  for_each_lane(on, out.shape[0], out.shape[1],
                [&](auto width) { return GradOfPoint<F, decltype(width)::value>{grad, inverse, ptr, mean, arg, out}; });
}

void scatter_mode(const Exec &on, View<const int64_t, 1> labels, const Segments &segments, View<int64_t, 1> scratch,
                  View<int64_t, 1> out) {
  for_each(on, 1, out.shape[0], ModeOfSegment{labels, segments, scratch, out});
}

#define P2D3D_FOR(F)                                                                                                  \
  template void add_rows<F>(const Exec &, View<const F, 2>, View<const int32_t, 1>, View<acc_t<F>, 2>);               \
  template void scatter_sum<F>(const Exec &, View<const F, 2>, const Segments &, bool, View<F, 2>);                   \
  template void scatter_extreme<F>(const Exec &, View<const F, 2>, const Segments &, bool, View<F, 2>,                \
                                   View<int64_t, 2>);                                                                 \
  template void scatter_grad<F>(const Exec &, View<const F, 2>, View<const int64_t, 1>, View<const int64_t, 1>, bool, \
                                View<const int64_t, 2>, View<F, 2>);
P2D3D_FOR(Half)
P2D3D_FOR(BFloat16)
P2D3D_FOR(float)
P2D3D_FOR(double)
