#include "core/radix_sort.hpp"
#include "ops.hpp"

template <class K>
void sort_keys(const Exec &on, View<const K, 1> key, int bits, View<int64_t, 1> scratch, View<K, 1> sorted,
               View<int64_t, 1> order) {
  using U = std::make_unsigned_t<K>;  // not negative, so they order alike
  using Item = SortItem<U>;
  const int64_t n = key.shape[0];
  Item *items = reinterpret_cast<Item *>(scratch.data), *more = items + n;
  if (sizeof(Item) == sizeof(int64_t)) more = reinterpret_cast<Item *>(order.data);  // written last of all
  radix_sort(on, n, reinterpret_cast<const U *>(key.data), bits, more, items, reinterpret_cast<U *>(sorted.data),
             order.data);
}

template void sort_keys<int32_t>(const Exec &, View<const int32_t, 1>, int, View<int64_t, 1>, View<int32_t, 1>,
                                 View<int64_t, 1>);
template void sort_keys<int64_t>(const Exec &, View<const int64_t, 1>, int, View<int64_t, 1>, View<int64_t, 1>,
                                 View<int64_t, 1>);
