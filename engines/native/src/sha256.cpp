#include "sha256.h"

#include <algorithm>
#include <cstring>

namespace infer {

namespace {

// FIPS 180-4, section 4.2.2.
constexpr std::array<std::uint32_t, 64> constants{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

constexpr std::uint32_t rotated(std::uint32_t x, unsigned n) { return (x >> n) | (x << (32U - n)); }

}  // namespace

void Sha256::block(const unsigned char* data) noexcept {
  std::array<std::uint32_t, 64> w{};
  for (std::size_t i = 0; i < 16; ++i) {
    w[i] = (std::uint32_t{data[4 * i]} << 24U) | (std::uint32_t{data[4 * i + 1]} << 16U) |
           (std::uint32_t{data[4 * i + 2]} << 8U) | std::uint32_t{data[4 * i + 3]};
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ (w[i - 15] >> 3U);
    const std::uint32_t s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ (w[i - 2] >> 10U);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
    const std::uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  const std::array<std::uint32_t, 8> sum{a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < sum.size(); ++i) {
    state_[i] += sum[i];
  }
}

void Sha256::update(const void* data, std::size_t size) noexcept {
  if (size == 0) {
    return;
  }
  const auto* bytes = static_cast<const unsigned char*>(data);
  size_ += size;
  if (filled_ > 0) {
    const std::size_t part = std::min(size, rest_.size() - filled_);
    std::memcpy(rest_.data() + filled_, bytes, part);
    filled_ += part;
    bytes += part;
    size -= part;
    if (filled_ < rest_.size()) {
      return;
    }
    block(rest_.data());
    filled_ = 0;
  }
  for (; size >= rest_.size(); bytes += rest_.size(), size -= rest_.size()) {
    block(bytes);
  }
  if (size > 0) {
    std::memcpy(rest_.data(), bytes, size);
    filled_ = size;
  }
}

std::string Sha256::hex() {
  const std::uint64_t bits = size_ * 8;
  constexpr std::array<unsigned char, 64> padding{0x80};
  update(padding.data(), filled_ < 56 ? 56 - filled_ : 120 - filled_);
  std::array<unsigned char, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<unsigned char>((bits >> (56U - 8U * i)) & 0xffU);
  }
  update(length.data(), length.size());
  constexpr char digits[] = "0123456789abcdef";
  std::string result;
  for (const std::uint32_t word : state_) {
    for (unsigned shift = 32; shift > 0;) {
      shift -= 4;
      result += digits[(word >> shift) & 15U];
    }
  }
  return result;
}

}  // namespace infer
