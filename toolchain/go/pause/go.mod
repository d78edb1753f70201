module dds.invalid/toolchain/pause

go 1.24.0
