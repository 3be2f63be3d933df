// A process of its own for what a test does to a process.
#pragma once

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>

namespace tests {

/// Runs a function in a child process, which ends with it: exit code 0, or 1 where it throws.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : process_(fork()) {
    if (process_ < 0) {
      throw std::runtime_error("no child process");
    }
    if (process_ == 0) {
      int code = 0;
      try {
        body();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        code = 1;
      }
      _exit(code);  // what the parent registered to be done at exit is the parent's
    }
  }
  ~Child() {
    if (process_ > 0) {
      static_cast<void>(::kill(process_, SIGKILL));
      static_cast<void>(waitpid(process_, nullptr, 0));
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Waits for its end. Gives its exit code, or the signal that killed it, negative.
  int wait() {
    int status = 0;
    while (waitpid(process_, &status, 0) < 0) {
      if (errno != EINTR) {
        throw std::runtime_error("the child process is gone");
      }
    }
    process_ = 0;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t process_;
};

}  // namespace tests
