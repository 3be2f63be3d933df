// Files, read whole and written whole.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "memory.h"

namespace infer {

/// Closes a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int value) noexcept : value_(value) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&&) = delete;
  Descriptor& operator=(Descriptor&&) = delete;

  int get() const noexcept { return value_; }
  /// Gives the result of close(), which may be the first to tell of a failed write.
  int close() noexcept;

 private:
  int value_;
};

/// Gives what a path names once symbolic links are followed, whether that exists or not. Throws InputError, naming the
/// path, where links lead in a circle.
std::string link_target(const std::string& path);

/// Reads a regular file. Throws InputError, naming the file, where there is none or where it changes meanwhile.
Array<char> read_file(const std::string& path);

/// A regular file's content, mapped: what the system has read already is neither read nor stored once more.
class MappedFile {
 public:
  /// Throws InputError, naming the file, where it cannot be read.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile(MappedFile&&) = delete;
  MappedFile& operator=(MappedFile&&) = delete;

  std::string_view text() const noexcept { return text_; }
  /// Throws InputError where the file has changed since it was opened: then what was read may be neither state of it.
  /// (Where it becomes shorter, reading beyond its new end kills the process: SIGBUS.)
  void check_unchanged() const;

 private:
  std::string path_;
  Descriptor descriptor_;
  struct stat found_{};
  std::string_view text_;
};

/// A file that appears under its name complete or not at all: it is written beside it and renamed. A symbolic link
/// stays one, and what it points to is made or replaced.
class AtomicFile {
 public:
  /// Creates the temporary file. Throws InputError where that fails, and where ``path`` is no regular file or one that
  /// may not be written.
  explicit AtomicFile(const std::string& path);
  /// Removes the temporary file unless it was committed.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  AtomicFile(AtomicFile&&) = delete;
  AtomicFile& operator=(AtomicFile&&) = delete;

  /// Throws InputError where the disk does not take it.
  void write(std::string_view text);
  /// Flushes, closes and renames; throws InputError where any of these fails.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_;
  std::string target_;
  std::string temporary_;
  Descriptor descriptor_;
};

/// Has SIGINT, SIGTERM and SIGHUP remove the temporary files of every AtomicFile before they end the program, as they
/// do without this. One that is ignored stays so.
void remove_temporaries_on_signals();

}  // namespace infer
