// SHA-256.
#include <random>
#include <string>

#include "sha256.h"
#include "testing.h"

using infer::Sha256;

namespace {

std::string hash(const std::string& text) {
  Sha256 sha;
  sha.update(text.data(), text.size());
  return sha.hex();
}

}  // namespace

TEST("the hashes of FIPS 180-4's examples are right") {
  EXPECT_EQ(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST("a hash does not depend on the pieces that the bytes come in") {
  std::mt19937 random(23);
  for (std::size_t size = 0; size < 300; ++size) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) {
      text += static_cast<char>(random() % 256);
    }
    Sha256 sha;
    for (std::size_t at = 0; at < size;) {
      const std::size_t part = std::min<std::size_t>(random() % 100, size - at);
      sha.update(text.data() + at, part);
      at += part;
    }
    EXPECT_EQ(sha.hex(), hash(text));
  }
}
