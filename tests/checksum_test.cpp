#include "efio/checksum.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <random>
#include <vector>

namespace {

constexpr std::size_t longest = 9216;
constexpr std::size_t alignments = 64;

// RFC 1071 in its own words, a byte at a time, so that all lengths of one start cost one pass.
class Naive {
 public:
  void add(std::byte byte) {
    sum_ += std::to_integer<std::uint64_t>(byte) << (size_ % 2 == 0 ? 8 : 0);
    ++size_;
  }
  std::uint16_t fold() const {
    std::uint64_t sum = sum_;
    while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
  }

 private:
  std::uint64_t sum_ = 0;
  std::size_t size_ = 0;
};

std::uint16_t naive(std::span<const std::byte> bytes) {
  Naive sum;
  for (const std::byte byte : bytes) sum.add(byte);
  return sum.fold();
}

std::vector<std::byte> random_bytes(std::size_t size) {
  std::mt19937 random(1071);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Reports the first difference only: a broken kernel has half a million.
template <class Sum>
void expect_as_naive_everywhere(const char* name, const std::vector<std::byte>& bytes, Sum sum) {
  for (std::size_t offset = 0; offset < alignments; ++offset) {
    Naive expected;
    for (std::size_t size = 0; size <= longest; ++size) {
      const std::uint16_t got = efio::checksum_fold(sum(std::span(bytes).subspan(offset, size)));
      if (got != expected.fold())
        FAIL() << name << ": offset " << offset << ", size " << size << ": " << got << ", not " << expected.fold();
      expected.add(bytes[offset + size]);
    }
  }
}

// A page between two that cannot be touched.
class GuardedPage {
 public:
  GuardedPage() {
    all_ = ::mmap(nullptr, 3 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all_ == MAP_FAILED || ::mprotect(bytes().data(), page_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  }
  GuardedPage(const GuardedPage&) = delete;
  GuardedPage& operator=(const GuardedPage&) = delete;
  ~GuardedPage() { ::munmap(all_, 3 * page_); }
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(all_) + page_, page_}; }

 private:
  std::size_t page_ = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* all_;
};

TEST(Checksum, MatchesReferenceAtEveryLengthAndOffset) {
  expect_as_naive_everywhere("checksum_partial", random_bytes(longest + alignments + 1),
                             [](auto bytes) { return efio::checksum_partial(bytes); });
}

TEST(Checksum, EveryKernelMatchesReferenceAtEveryLengthAndOffset) {
  const auto bytes = random_bytes(longest + alignments + 1);
  for (const auto& kernel : efio::checksum_kernels())
    expect_as_naive_everywhere(kernel.name, bytes, [&](auto part) { return kernel.partial(part.data(), part.size()); });
}

TEST(Checksum, ExtremeBytesNeitherOverflowNorLoseTheSignOfZero) {
  for (const int value : {0x00, 0xFF, 0x7F, 0x80}) {
    const std::vector<std::byte> bytes(efio::checksum_kernel_limit, static_cast<std::byte>(value));
    const std::uint16_t expected = naive(bytes);
    EXPECT_EQ(efio::checksum_fold(efio::checksum_partial(bytes)), expected);
    for (const auto& kernel : efio::checksum_kernels())
      EXPECT_EQ(efio::checksum_fold(kernel.partial(bytes.data(), bytes.size())), expected) << kernel.name;
  }
}

TEST(Checksum, SumsMoreThanOneKernelCallTakes) {
  const auto bytes = random_bytes(3 * efio::checksum_kernel_limit + 12345);
  EXPECT_EQ(efio::checksum_fold(efio::checksum_partial(bytes)), naive(bytes));
}

TEST(Checksum, ReadsNothingOutsideTheBuffer) {
  const GuardedPage page;
  const auto bytes = page.bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  for (std::size_t size = 0; size <= 700; ++size) {
    for (const auto part : {bytes.first(size), bytes.last(size)}) {
      ASSERT_EQ(efio::checksum_fold(efio::checksum_partial(part)), naive(part)) << size;
      for (const auto& kernel : efio::checksum_kernels())
        ASSERT_EQ(efio::checksum_fold(kernel.partial(part.data(), part.size())), naive(part)) << kernel.name << size;
    }
  }
}

TEST(Checksum, SplitSumsAgreeAtEveryCut) {
  const auto bytes = random_bytes(1501);
  const auto whole = efio::checksum_fold(efio::checksum_partial(bytes));
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    const auto left = std::span(bytes).first(cut);
    const auto right = std::span(bytes).subspan(cut);
    if (cut % 2 == 0) {
      EXPECT_EQ(efio::checksum_fold(efio::checksum_partial(right, efio::checksum_partial(left))), whole) << cut;
    }
    EXPECT_EQ(
        efio::checksum_fold(efio::checksum_combine(efio::checksum_partial(left), cut, efio::checksum_partial(right))),
        whole)
        << cut;
  }
}

TEST(Checksum, SplitInThreeAgrees) {
  const auto bytes = random_bytes(64);
  const auto part = [&](std::size_t from, std::size_t to) {
    return efio::checksum_partial(std::span(bytes).subspan(from, to - from));
  };
  for (std::size_t a = 0; a <= 64; ++a)
    for (std::size_t b = a; b <= 64; ++b) {
      const auto two = efio::checksum_combine(part(0, a), a, part(a, b));
      ASSERT_EQ(efio::checksum_fold(efio::checksum_combine(two, b, part(b, 64))), efio::checksum_fold(part(0, 64)))
          << a << ' ' << b;
    }
}

TEST(Checksum, ExampleOfRfc1071) {
  const std::byte bytes[] = {std::byte{0x00}, std::byte{0x01}, std::byte{0xf2}, std::byte{0x03},
                             std::byte{0xf4}, std::byte{0xf5}, std::byte{0xf6}, std::byte{0xf7}};
  EXPECT_EQ(efio::checksum_fold(efio::checksum_partial(bytes)), 0xddf2);
  EXPECT_EQ(efio::checksum(bytes), 0x220d);
}

TEST(Checksum, NothingSumsToZero) { EXPECT_EQ(efio::checksum({}), 0xFFFF); }

TEST(Checksum, WordsAreWhatTheirBytesOnTheWireAre) {
  const std::byte bytes[] = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                             std::byte{5}, std::byte{6}, std::byte{7}, std::byte{200}};
  const auto fold = [](std::uint64_t partial) { return efio::checksum_fold(partial); };
  EXPECT_EQ(fold(efio::checksum_word(std::uint16_t{0x0102})), fold(efio::checksum_partial(std::span(bytes).first(2))));
  EXPECT_EQ(fold(efio::checksum_word(std::uint32_t{0x01020304})),
            fold(efio::checksum_partial(std::span(bytes).first(4))));
  EXPECT_EQ(fold(efio::checksum_word(std::uint64_t{0x01020304050607c8})), fold(efio::checksum_partial(bytes)));
}

TEST(Checksum, FoldTakesEvery64BitPartial) {
  EXPECT_EQ(efio::checksum_fold(0), 0);
  EXPECT_EQ(efio::checksum_fold(~std::uint64_t{0}), 0xFFFF);
  EXPECT_EQ(efio::checksum_fold(std::uint64_t{1} << 63), efio::checksum_fold(std::uint64_t{1} << 15));
  EXPECT_EQ(efio::checksum_fold(0xFFFF'FFFF'0000'0001), efio::checksum_fold(1));
}

}  // namespace
