//! Verdicts on result files of others; ignored where there are none.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod as_published;
#[path = "../verdict/judgement/contradictions.rs"]
mod contradictions;
mod judged;

mantissa_testkit::others! {
    as_published: [
        every_stored_aggregate_of_every_file_comes_out_in_every_bit,
        attention_prints_its_four_quotients_and_hides_one_pair,
        quantization_prints_its_words_and_drops_what_differs_most,
        quantization_across_hardware_pools_what_its_own_pairs_deny,
        batch_classes_come_out_and_the_figures_without_meaning_are_named,
        activations_are_rounded_to_binary16,
        a_figure_that_was_changed_does_not_follow,
    ],
    judged: [
        prefill_at_batch_5_and_9_is_one_class,
        ref_2_is_divergent_and_not_noisy,
        batch_size_is_not_told_from_prefill_replays_of_any_pair,
        averages_tell_how_far_each_pair_is_and_decide_nothing,
        gpus_of_one_family_are_one_class,
        a100_h100_and_l40s_are_separable_at_batch_1,
        gptq_decode_does_not_repeat_itself,
        awq_and_gptq_differ_in_weights,
        four_references_neither_separate_marlin_from_plain_kernels_nor_exclude_it,
        matching_replays_on_the_same_a100_are_exact_and_group_batch_sizes,
        distances_of_an_exact_verifier_show_that_tokens_parted,
        prefill_replays_on_the_h100_are_one_class,
        batch_sizes_of_the_h100_group_by_raw_signals,
        a_reference_comes_first_and_one_that_is_not_there_is_refused,
        published_files_give_the_same_bytes_twice,
        nothing_said_of_any_file_contradicts_another,
    ],
}
