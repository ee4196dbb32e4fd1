fn main() -> anyhow::Result<()> {
    weir_bench::run()
}
