//! `captiond-kernels (products ISA ROWS DEPTH COLUMNS | windows ISA SIZE KERNEL CHANNELS) TIMES`, for whoever counts; without
//! arguments, the instruction sets.

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, isa, numbers @ ..] = words.as_slice() else {
        return println!("{}", captiond_kernels::available().join(" "));
    };
    let numbers: Vec<usize> = numbers.iter().map(|word| word.parse().expect("a number")).collect();
    let [a, b, c, times] = numbers[..] else { panic!("four numbers") };
    match what.as_str() {
        "products" => captiond_kernels::products(isa, [a, b, c], times),
        "windows" => captiond_kernels::windows(isa, [a, b, c], times),
        _ => panic!("products or windows"),
    }
}
