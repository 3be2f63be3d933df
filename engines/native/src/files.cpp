#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <system_error>

#include "error.h"

namespace infer {

namespace {

std::string reason(int code) { return std::generic_category().message(code); }

/// Gives the file that is replaced. Renaming onto it asks nobody for leave to write to it: that is asked here.
std::string replaced(const std::string& path) {
  struct stat found{};
  if (stat(path.c_str(), &found) != 0) {
    return link_target(path);  // a new file; what else is wrong is told when the temporary one beside it is created
  }
  if (!S_ISREG(found.st_mode)) {
    throw InputError(path + ": is no regular file; allowed: a new file, or a regular one to replace");
  }
  if (access(path.c_str(), W_OK) != 0) {
    throw InputError(path + ": is there and cannot be written: " + reason(errno) +
                     "; allowed: a new file, or a writable one to replace (chmod u+w)");
  }
  return link_target(path);
}

/// A temporary file that there is. Kept in static storage, for a signal's handler may neither lock nor touch the heap.
struct Temporary {
  std::atomic<bool> there{false};
  std::array<char, PATH_MAX> name{};  // no file has a longer one
};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal's handler may not wait for a lock");

std::array<Temporary, 4> temporaries;  // these programs write two files; of more, a signal leaves some behind
std::mutex temporaries_mutex;          // of those who change them, which the handler does not

constexpr std::array<int, 3> ending_signals{SIGINT, SIGTERM, SIGHUP};

void remember(const std::string& name) {
  const std::lock_guard<std::mutex> lock(temporaries_mutex);
  for (Temporary& one : temporaries) {
    if (!one.there && name.size() < one.name.size()) {
      std::memcpy(one.name.data(), name.c_str(), name.size() + 1);
      one.there = true;
      return;
    }
  }
}

void forget(const std::string& name) {
  const std::lock_guard<std::mutex> lock(temporaries_mutex);
  for (Temporary& one : temporaries) {
    if (one.there && name == one.name.data()) {
      one.there = false;
    }
  }
}

/// Keeps signals from this thread while a temporary file is there and not yet known to their handler.
class Uninterrupted {
 public:
  Uninterrupted() {
    sigset_t blocked;
    sigemptyset(&blocked);
    for (const int signal : ending_signals) {
      sigaddset(&blocked, signal);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~Uninterrupted() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Uninterrupted(const Uninterrupted&) = delete;
  Uninterrupted& operator=(const Uninterrupted&) = delete;
  Uninterrupted(Uninterrupted&&) = delete;
  Uninterrupted& operator=(Uninterrupted&&) = delete;

 private:
  sigset_t before_{};
};

int create(const std::string& path, std::string& temporary) {
  const Uninterrupted uninterrupted;
  const int descriptor = mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor < 0) {
    throw InputError(path + ": cannot be written: " + reason(errno));
  }
  remember(temporary);
  return descriptor;
}

struct stat regular(const std::string& path, const Descriptor& descriptor) {
  struct stat found{};
  if (descriptor.get() < 0 || fstat(descriptor.get(), &found) != 0) {
    throw InputError(path + ": cannot be read: " + reason(errno));
  }
  if (!S_ISREG(found.st_mode)) {
    throw InputError(path + ": is " + (S_ISDIR(found.st_mode) ? "a directory" : "no regular file") +
                     "; allowed: a regular file");
  }
  return found;
}

/// Uses nothing but what POSIX allows in a handler, on whatever thread it runs.
extern "C" void remove_temporaries(int signal) {
  for (const Temporary& one : temporaries) {
    if (one.there) {
      static_cast<void>(unlink(one.name.data()));
    }
  }
  static_cast<void>(raise(signal));  // its action is the default one again, and is taken as this returns
}

}  // namespace

void remove_temporaries_on_signals() {
  struct sigaction action{};
  action.sa_handler = remove_temporaries;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (const int signal : ending_signals) {
    struct sigaction before{};
    // One that is ignored (nohup) stays so.
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_DFL) {
      static_cast<void>(sigaction(signal, &action, nullptr));
    }
  }
}

std::string link_target(const std::string& path) {
  constexpr int most_links = 40;  // as many as Linux follows
  std::filesystem::path target = path;
  std::error_code error;
  // By hand, for canonical names are those of files that exist: a link to none would be taken for the file itself.
  for (int links = 0; std::filesystem::is_symlink(std::filesystem::symlink_status(target, error)); ++links) {
    if (links == most_links) {
      throw InputError(path + ": cannot be followed: " + reason(ELOOP) + "; allowed: a file, or a link to one");
    }
    const std::filesystem::path next = std::filesystem::read_symlink(target, error);
    if (error) {
      throw InputError(path + ": cannot be followed: " + error.message() + "; allowed: a file, or a link to one");
    }
    target = target.parent_path() / next;
  }
  return target.string();
}

Descriptor::~Descriptor() { static_cast<void>(close()); }

int Descriptor::close() noexcept {
  const int result = value_ < 0 ? 0 : ::close(value_);
  value_ = -1;
  return result;
}

Array<char> read_file(const std::string& path) {
  const Descriptor descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const struct stat found = regular(path, descriptor);
  const auto size = static_cast<std::size_t>(found.st_size);
  Array<char> content(size + 1);  // one more, to see whether the file grew
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t got =
        read(descriptor.get(), content.data() + done, std::min(content.size() - done, std::size_t{1} << 30U));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      throw InputError(path + ": cannot be read: " + reason(errno));
    }
    if (got == 0) {
      break;
    }
    done += static_cast<std::size_t>(got);
  }
  if (done != size) {
    throw InputError(path + ": changed while it was read (" + std::to_string(size) + " bytes before); run again");
  }
  content.shrink(size);
  return content;
}

MappedFile::MappedFile(const std::string& path)
    : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)), found_(regular(path, descriptor_)) {
  const auto size = static_cast<std::size_t>(found_.st_size);
  if (size == 0) {
    return;
  }
  void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor_.get(), 0);
  if (memory == MAP_FAILED) {
    throw InputError(path + ": cannot be read: " + reason(errno));
  }
  text_ = {static_cast<const char*>(memory), size};
}

MappedFile::~MappedFile() {
  if (!text_.empty()) {
    static_cast<void>(munmap(const_cast<char*>(text_.data()), text_.size()));
  }
}

void MappedFile::check_unchanged() const {
  const struct stat now = regular(path_, descriptor_);
  if (now.st_size != found_.st_size || now.st_mtim.tv_sec != found_.st_mtim.tv_sec ||
      now.st_mtim.tv_nsec != found_.st_mtim.tv_nsec) {
    throw InputError(path_ + ": changed while it was read; run again");
  }
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(path), target_(replaced(path)), temporary_(target_ + ".XXXXXX"), descriptor_(create(path, temporary_)) {}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) {
    static_cast<void>(unlink(temporary_.c_str()));  // after a failure already reported
    forget(temporary_);
  }
}

void AtomicFile::fail(const char* what) const {
  throw InputError(path_ + ": " + what + " failed: " + reason(errno) + "; nothing was written there");
}

void AtomicFile::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(descriptor_.get(), text.data(), std::min(text.size(), std::size_t{1} << 30U));
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put < 0) {
      fail("writing");
    }
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

void AtomicFile::commit() {
  // A temporary file is its owner's alone; the result has the mode that any new file gets.
  const mode_t mask = umask(0);
  umask(mask);
  if (fchmod(descriptor_.get(), static_cast<mode_t>(0666) & ~mask) != 0) {
    fail("setting the mode");
  }
  if (fsync(descriptor_.get()) != 0) {
    fail("flushing");
  }
  if (descriptor_.close() != 0) {
    fail("closing");
  }
  if (rename(temporary_.c_str(), target_.c_str()) != 0) {
    fail("renaming");
  }
  forget(temporary_);
  temporary_.clear();
}

}  // namespace infer
