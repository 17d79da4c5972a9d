#pragma once

namespace pd {

// From now on, the memory of tensors on a CPU lies in huge pages where the system has them for who asks.
void use_huge_pages();

}  // namespace pd
