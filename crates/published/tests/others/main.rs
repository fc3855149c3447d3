//! Result files of others, read, damaged and computed again; ignored where there are none.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod json_layouts;
mod log_figures;
mod logs;
#[expect(
    clippy::cast_precision_loss,
    clippy::needless_range_loop,
    reason = "small tables, as a script would"
)]
mod truth;

mantissa_testkit::others! {
    json_layouts: [
        every_layout_is_known_by_its_content_under_any_name,
        activations_are_an_experiment_over_batch_sizes_whose_site_is_assumed,
        batch_generation_keeps_ids_neighbours_and_the_step_that_consumed_a_token,
        quant_generation_keeps_the_top_five_where_they_were_computed,
        verifications_hold_every_stored_distance_with_its_place,
        a_wrong_type_is_named_by_its_json_path,
        dimensions_that_do_not_fit_are_refused,
        a_reference_without_a_number_is_refused,
        a_missing_signal_and_a_missing_comparison_are_refused,
        a_truncated_file_and_a_duplicate_key_are_refused_at_their_line,
        not_a_number_everywhere_is_read_and_stays_one,
        an_unknown_file_gets_one_error_that_lists_what_is_known,
        all_published_experiments_keep_the_laws_of_a_record,
        a_file_of_ten_gigabytes_is_refused_at_once,
    ],
    log_figures: [
        the_batch_matrix_follows_from_its_cells,
        the_batch_matrix_misleads_where_tokens_part,
        the_attention_log_follows_from_its_companion,
        the_quantization_log_follows_from_its_companion,
        an_altered_figure_does_not_follow,
    ],
    logs: [
        a_log_cut_after_any_line_is_refused_by_what_is_missing,
        a_log_that_lost_any_line_is_refused,
        each_alteration_is_named_with_its_line,
        white_space_means_nothing,
        junk_is_refused_with_bounded_memory,
    ],
    truth: [
        every_file_of_the_folders_is_in_the_table,
        every_right_value_comes_out_of_every_file,
        a_log_that_calls_infinite_distances_zero_is_contradicted,
    ],
}
