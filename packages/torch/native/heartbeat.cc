// Signs of life between the processes of a group, over the store, on threads of their own: a rank that computes, samples
// or saves for minutes lives; one that was killed or stopped does not.
//
// Each rank counts up a key. Rank 0 looks at the counts of all others, rank 1 at rank 0's. Who finds one that stands still
// writes the verdict, which all ranks read. Where the store itself does not answer, the process that holds it is lost.
#include "distributed.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace pd {

#ifdef PD_HAS_C10D

namespace {

using Clock = std::chrono::steady_clock;

struct Heartbeat : std::enable_shared_from_this<Heartbeat> {
  std::string host;
  int port = 0;
  std::string prefix;
  int rank = 0;
  int size = 1;
  Millis interval{1000};
  Millis limit{20000};
  Millis urgent_limit{4000};

  std::shared_ptr<Promise> promise;  // of the verdict
  std::atomic<bool> is_urgent{false};
  std::atomic<Clock::rep> answered{0};  // when the store answered last
  std::mutex mutex;
  std::condition_variable changed;
  bool is_stopped = false;  // under the mutex, as the next
  std::string own_failure;

  void conclude(const std::string& verdict) {
    promise->resolve([verdict](State& state) { return make_string(state.env, verdict); });
  }

  // Waits an interval; false once the heartbeat is stopped.
  bool pause() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait_for(lock, interval, [&] { return is_stopped || !own_failure.empty(); });
    return !is_stopped;
  }

  void touch() { answered = Clock::now().time_since_epoch().count(); }

  // Concludes only when the connection is closed: the process may end right after.
  void beat() {
    auto self = shared_from_this();
    std::string verdict;
    try {
      verdict = watch();
    } catch (...) {
      verdict = "store " + message_of(std::current_exception());
    }
    conclude(verdict);
  }

  std::string watch() {
    auto store = c10::make_intrusive<c10d::PrefixStore>(prefix, connect_store(host, port, false, limit));
    std::vector<int> watched;
    if (rank == 0) {
      for (int other = 1; other < size; ++other) watched.push_back(other);
    } else if (rank == 1) {
      watched.push_back(0);
    }
    std::vector<int64_t> counts(watched.size(), -1);
    std::vector<Clock::time_point> since(watched.size(), Clock::now());
    const std::string me = std::to_string(rank);
    do {
      std::string failure;
      {
        std::lock_guard<std::mutex> lock(mutex);
        failure = own_failure;
      }
      if (!failure.empty()) {
        store->compareSet("verdict", {}, bytes_of("failed " + me + " " + failure));
        break;
      }
      store->add("beat/" + me, 1);
      if (is_urgent) store->add("urgent", 1);
      touch();
      if (store->check({"verdict"})) {
        const std::string verdict = text_of(store->get("verdict"));
        store->add("left/" + me, 1);
        return verdict;
      }
      if (watched.empty()) continue;
      const Millis allowed = store->check({"urgent"}) ? urgent_limit : limit;
      for (size_t i = 0; i < watched.size(); ++i) {
        const std::string other = std::to_string(watched[i]);
        const int64_t count = store->add("beat/" + other, 0);
        touch();
        if (count != counts[i]) {
          counts[i] = count;
          since[i] = Clock::now();
        } else if (Clock::now() - since[i] > allowed && !store->check({"left/" + other})) {
          store->compareSet("verdict", {}, bytes_of("lost " + other));
        }
      }
    } while (pause());
    // An orderly end (or one that has told its failure).
    store->add("left/" + me, 1);
    return "left";
  }

  // A store whose process was stopped does not answer, and the thread above waits with it.
  void watch_store() {
    auto self = shared_from_this();
    while (pause()) {
      const Clock::time_point last{Clock::duration(answered)};
      if (Clock::now() - last > limit + interval) {
        conclude("store it does not answer");
        return;
      }
      std::this_thread::sleep_for(Millis(50));  // a failure that waits to be told makes pause() return at once
    }
  }
};

// startHeartbeat(host, port, prefix, rank, size, intervalMs, limitMs) -> { handle, verdict: Promise<text> }
//
// The verdict is 'lost RANK', 'failed RANK MESSAGE', 'store MESSAGE' or, after stopHeartbeat, 'left'.
napi_value start_heartbeat(Call& call) {
  auto heartbeat = std::make_shared<Heartbeat>();
  heartbeat->host = get_string(call.env, call.args[0]);
  heartbeat->port = static_cast<int>(get_int(call.env, call.args[1]));
  heartbeat->prefix = get_string(call.env, call.args[2]);
  heartbeat->rank = static_cast<int>(get_int(call.env, call.args[3]));
  heartbeat->size = static_cast<int>(get_int(call.env, call.args[4]));
  heartbeat->interval = Millis(get_int(call.env, call.args[5]));
  heartbeat->limit = Millis(get_int(call.env, call.args[6]));
  heartbeat->urgent_limit = std::min(heartbeat->limit, heartbeat->interval * 4);
  heartbeat->touch();
  napi_value verdict;
  heartbeat->promise = Promise::make(call.state, "torch.heartbeat", &verdict);
  heartbeat->promise->unref();
  std::thread([heartbeat] { heartbeat->beat(); }).detach();
  std::thread([heartbeat] { heartbeat->watch_store(); }).detach();
  napi_value result;
  check(call.env, napi_create_object(call.env, &result));
  set(call.env, result, "handle", wrap_shared(call.env, heartbeat));
  set(call.env, result, "verdict", verdict);
  return result;
}

// hurryHeartbeat(handle): a collective has failed; who stands still for a few intervals is lost.
napi_value hurry_heartbeat(Call& call) {
  unwrap_shared<Heartbeat>(call.env, call.args[0])->is_urgent = true;
  return nullptr;
}

// failHeartbeat(handle, message): tells all ranks that this one fails.
napi_value fail_heartbeat(Call& call) {
  const auto heartbeat = unwrap_shared<Heartbeat>(call.env, call.args[0]);
  {
    std::lock_guard<std::mutex> lock(heartbeat->mutex);
    heartbeat->own_failure = get_string(call.env, call.args[1]);
  }
  heartbeat->changed.notify_all();
  return nullptr;
}

napi_value stop_heartbeat(Call& call) {
  const auto heartbeat = unwrap_shared<Heartbeat>(call.env, call.args[0]);
  {
    std::lock_guard<std::mutex> lock(heartbeat->mutex);
    heartbeat->is_stopped = true;
  }
  heartbeat->changed.notify_all();
  return nullptr;
}

}  // namespace

void define_heartbeat(State& state, napi_value exports) {
  define(state, exports,
         {{"startHeartbeat", entry<start_heartbeat>},
          {"hurryHeartbeat", entry<hurry_heartbeat>},
          {"failHeartbeat", entry<fail_heartbeat>},
          {"stopHeartbeat", entry<stop_heartbeat>}});
}

#else
void define_heartbeat(State&, napi_value) {}
#endif

}  // namespace pd
