// Large pageable arrays.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

namespace infer {

/// An array of trivial elements that is not filled with zeros first, on huge pages where the system has them.
template <typename T>
class Array {
 public:
  Array() = default;

  /// Throws std::bad_alloc.
  explicit Array(std::size_t size) : size_(size) {
    // Copying 8 GB/s from 4 KiB pages spends a noticeable part of it on address translation.
    constexpr std::size_t huge = std::size_t{2} << 20U;
    if (size > (std::numeric_limits<std::size_t>::max() - huge) / sizeof(T)) {
      throw std::bad_alloc();
    }
    const std::size_t bytes = size * sizeof(T);
    const std::size_t alignment = bytes < 2 * huge ? 64 : huge;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, bytes == 0 ? 1 : bytes) != 0) {
      throw std::bad_alloc();
    }
    data_.reset(static_cast<T*>(memory));
    if (alignment == huge) {
      static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));  // advice: refused, it only costs time
    }
  }

  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

  /// Forgets the elements from ``size`` on; the memory is kept.
  void shrink(std::size_t size) noexcept { size_ = size < size_ ? size : size_; }

 private:
  struct Free {
    void operator()(T* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace infer
