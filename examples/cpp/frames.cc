// Classify raw RGB frames from a pipe with a library made by `bwn compile --name net`:
//
//   ffmpeg -v error -f v4l2 -i /dev/video0 -f rawvideo -pix_fmt rgb24 - | ./frames 640 480
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <vector>

#include "net.h"

// A network with memory of its own: one for each thread.
class Network {
public:
    Network() : arena_(std::aligned_alloc(64, NET_ARENA_SIZE), std::free) { check(net_init(arena_.get())); }

    std::vector<float> classify(const std::uint8_t *rgb, int width, int height) const {
        std::vector<float> probabilities(NET_CLASSES);
        check(net_classify(arena_.get(), rgb, width, height, 3, std::ptrdiff_t{3} * width, probabilities.data()));
        return probabilities;
    }

private:
    static void check(int code) {
        if (code) throw std::runtime_error(net_error(code));
    }
    std::unique_ptr<void, decltype(&std::free)> arena_;
};

int main(int argc, char **argv) try {
    const int width = argc == 3 ? std::atoi(argv[1]) : 0, height = argc == 3 ? std::atoi(argv[2]) : 0;
    if (width < 1 || height < 1) {
        std::fprintf(stderr, "usage: %s WIDTH HEIGHT < frames\n", argv[0]);
        return 2;
    }
    const Network network;
    std::vector<std::uint8_t> frame(std::size_t{3} * width * height);
    for (int shown = -1; std::fread(frame.data(), frame.size(), 1, stdin) == 1;) {
        const auto probabilities = network.classify(frame.data(), width, height);
        const auto best = std::max_element(probabilities.begin(), probabilities.end());
        const int index = static_cast<int>(best - probabilities.begin());
        if (index != shown) std::printf("%s (%.1f %%)\n", net_class(shown = index), 100 * *best), std::fflush(stdout);
    }
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
