// The op `Planted`: y = x, and what a load test shall find. See tests/load/planted_op.py.
//
// TensorFlow's C API for kernels.

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"

struct Plant {
  int64_t wait_us, hold_us, leak_bytes;  // of each row
};

// The lock of all workers in this process. Who holds it is alone, as in the serial phase of Amdahl's
// law: it waits until nobody works, and nobody begins to work while others wait for the lock.
static struct {
  std::mutex mutex;
  std::condition_variable changed;
  int working, wanting;
  bool is_held;
} lock;

static void nap(int64_t us) {
  struct timespec left = {us / 1000000, us % 1000000 * 1000};
  while (nanosleep(&left, &left)) {
  }
}

static void work(int64_t wait_us) {
  {
    std::unique_lock<std::mutex> guard(lock.mutex);
    lock.changed.wait(guard, [] { return !lock.is_held && !lock.wanting; });
    ++lock.working;
  }
  nap(wait_us);
  const std::lock_guard<std::mutex> guard(lock.mutex);
  --lock.working;
  lock.changed.notify_all();
}

static void hold(int64_t hold_us) {
  {
    std::unique_lock<std::mutex> guard(lock.mutex);
    ++lock.wanting;
    lock.changed.wait(guard, [] { return !lock.is_held && !lock.working; });
    --lock.wanting;
    lock.is_held = true;
  }
  nap(hold_us);
  const std::lock_guard<std::mutex> guard(lock.mutex);
  lock.is_held = false;
  lock.changed.notify_all();
}

// Blocks of its own: `malloc` would first give what others have freed, without any growth.
static void leak(int64_t bytes) {
  static std::mutex one_at_a_time;
  static char* block;
  static int64_t left;
  const std::lock_guard<std::mutex> held(one_at_a_time);
  for (; bytes > 0; ++block, --left, --bytes) {
    if (!left) {
      left = 1 << 20;
      block = static_cast<char*>(
          mmap(nullptr, left, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    }
    *block = 1;
  }
}

static void* create(TF_OpKernelConstruction* context) {
  auto* plant = static_cast<Plant*>(calloc(1, sizeof(Plant)));
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrInt64(context, "wait_us", &plant->wait_us, status);
  TF_OpKernelConstruction_GetAttrInt64(context, "hold_us", &plant->hold_us, status);
  TF_OpKernelConstruction_GetAttrInt64(context, "leak_bytes", &plant->leak_bytes, status);
  TF_DeleteStatus(status);
  return plant;
}

// Calls take the lock for as many rows: with those of a whole call, large calls delay small ones.
constexpr int64_t kRowsOfTurn = 25;

static void compute(void* kernel, TF_OpKernelContext* context) {
  const auto* plant = static_cast<const Plant*>(kernel);
  TF_Status* status = TF_NewStatus();
  TF_Tensor* x = nullptr;
  TF_GetInput(context, 0, &x, status);
  int64_t rows = TF_TensorElementCount(x);
  if (!plant->hold_us) nap(rows * plant->wait_us);
  for (int64_t left = rows; plant->hold_us && left > 0; left -= kRowsOfTurn) {
    work(std::min(left, kRowsOfTurn) * plant->wait_us);
    hold(std::min(left, kRowsOfTurn) * plant->hold_us);
  }
  leak(rows * plant->leak_bytes);
  TF_SetOutput(context, 0, x, status);
  TF_DeleteTensor(x);
  TF_DeleteStatus(status);
}

static void destroy(void* kernel) { free(kernel); }

static const bool is_added = [] {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder("Planted");
  TF_OpDefinitionBuilderAddInput(op, "x: float");
  TF_OpDefinitionBuilderAddOutput(op, "y: float");
  TF_OpDefinitionBuilderAddAttr(op, "wait_us: int = 0");
  TF_OpDefinitionBuilderAddAttr(op, "hold_us: int = 0");
  TF_OpDefinitionBuilderAddAttr(op, "leak_bytes: int = 0");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, TF_ShapeInferenceContextSetUnknownShape);
  TF_RegisterOpDefinition(op, status);
  TF_KernelBuilder* builder = TF_NewKernelBuilder("Planted", "CPU", create, compute, destroy);
  TF_RegisterKernelBuilder("Planted", builder, status);
  TF_DeleteStatus(status);
  return true;
}();
